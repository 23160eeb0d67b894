import assert from "node:assert/strict";
import { test } from "node:test";
import {
  cutCells,
  fitGrid,
  readMap,
  roundHalfEven,
  sideWeights,
} from "../../diml_nb/viz/static/solver_cells.js";
import { symmetricEigen } from "../../diml_nb/viz/static/solver_eigen.js";
import { cheapestPlan } from "../../diml_nb/viz/static/solver_exact.js";
import {
  commonOf,
  contributionsOf,
  marginalOf,
  matchTable,
  tableOf,
} from "../../diml_nb/viz/static/solver_match.js";
import { findParts } from "../../diml_nb/viz/static/solver_parts.js";
import { solve, traceIterations } from "../../diml_nb/viz/static/solver_sinkhorn.js";
import { randomCells, rule } from "./random_cells.js";

/**
 * @param {ArrayLike<number>} x
 * @param {ArrayLike<number>} y
 * @param {number} [tol]
 */
function assertClose(x, y, tol = 1e-9) {
  assert.equal(x.length, y.length);
  for (let i = 0; i < x.length; i++)
    assert.ok(Math.abs(x[i] - y[i]) < tol, `${i}: ${x[i]} ${y[i]}`);
}

/** @param {Iterable<number>} x */
function total(x) {
  return [...x].reduce((a, b) => a + b, 0);
}

/**
 * @param {Float64Array} plan
 * @param {number} n
 */
function rowSums(plan, n) {
  const m = plan.length / n;
  return Array.from({ length: n }, (_, i) => total(plan.subarray(i * m, (i + 1) * m)));
}

/**
 * @param {Float64Array} plan
 * @param {number} n
 */
function transposed(plan, n) {
  const m = plan.length / n;
  return plan.map((_, i) => plan[(i % n) * m + Math.floor(i / n)]);
}

/**
 * @param {import("../../diml_nb/viz/static/solver_cells.js").Cells} x
 * @param {import("../../diml_nb/viz/static/solver_cells.js").Cells} y
 * @param {import("../../diml_nb/viz/static/solver_match.js").MatchRequest} request
 */
function matchCells(x, y, request) {
  return matchTable(tableOf(x, y), request);
}

const a = randomCells([3, 4], 8, 1);
const b = randomCells([2, 5], 8, 2);

test("halves go to the even neighbour, as in Python", () => {
  assert.deepEqual([0.5, 1.5, 2.5, 3.4, 3.6].map(roundHalfEven), [0, 2, 2, 3, 4]);
  assert.deepEqual(fitGrid(4, { height: 6, width: 9 }), [3, 5]);
});

test("weights of a side sum to 1; blocks are averaged, else the side is resampled", () => {
  assert.deepEqual(sideWeights(4, 2, false), [
    [0.5, 0.5, 0, 0],
    [0, 0, 0.5, 0.5],
  ]);
  for (const row of sideWeights(7, 4, true)) assert.ok(Math.abs(total(row) - 1) < 1e-12);
  assertClose(sideWeights(1, 2, true).flat(), [1, 1]);
});

test("cells are unit vectors; one without length stays zero", () => {
  const values = new Float32Array([3, 0, 4, 0, 0, 0, 0, 0]);
  const { local, length, whole } = cutCells(readMap({ shape: [2, 2, 2], values }), [2, 2]);
  assertClose(length, [3, 0, 4, 0]);
  assert.deepEqual([...local[0], ...local[1]], [1, 0, 0, 0]);
  assert.deepEqual([...whole], [1, 0]);
});

test("masses sum to 1; where all would be zero they are equal", () => {
  assert.ok(
    Math.abs(total(marginalOf("cross_correlation_norm2", commonOf(a, b), a.length).mass) - 1) <
      1e-12,
  );
  const against = { ...b, whole: b.whole.map((x) => -1e3 * Math.abs(x)) };
  const positive = { ...a, local: a.local.map((x) => x.map(Math.abs)) };
  const { mass, isEmpty } = marginalOf("cross_correlation", commonOf(positive, against), a.length);
  assert.ok(isEmpty);
  assertClose(mass, Array(12).fill(1 / 12));
});

test("rows are exact, and columns as exact as asked for", () => {
  const match = matchCells(a, b, { ...rule, tol: 1e-9, max_iter: 5000 });
  assertClose(rowSums(match.plan, 12), match.massA);
  assertClose(rowSums(transposed(match.plan, 12), 10), match.massB, 1e-8);
});

test("swapping the images transposes the plan", () => {
  const options = { ...rule, tol: 1e-10, max_iter: 9000 };
  assertClose(matchCells(b, a, options).plan, transposed(matchCells(a, b, options).plan, 12), 1e-8);
});

test("a large eps gives the product of the masses, a small one the cheapest plan", () => {
  const { cosine, massA, massB, plan } = matchCells(a, b, { ...rule, eps: 1e6 });
  assertClose(plan, matchCells(a, b, { ...rule, plan: "product" }).plan, 1e-5);
  const sharp = matchCells(a, b, { ...rule, eps: 2e-3, max_iter: 20000, tol: 1e-8 });
  const exact = contributionsOf({ plan: cheapestPlan({ cosine, massA, massB }), cosine });
  assert.ok(Math.abs(sharp.similarity - total(exact)) < 1e-3);
  assert.ok(sharp.similarity < total(exact) + 1e-9);
});

test("the cheapest plan has both marginals", () => {
  const match = matchCells(a, b, { ...rule, plan: "exact" });
  assertClose(rowSums(match.plan, 12), match.massA, 1e-12);
  assertClose(rowSums(transposed(match.plan, 12), 10), match.massB, 1e-12);
});

test("logarithms and scaling factors give one plan", () => {
  const problem = {
    cost: Float64Array.from([0.1, 0.9, 0.8, 0.3]),
    massA: Float64Array.from([0.7, 0.3]),
    massB: Float64Array.from([0.4, 0.6]),
    eps: 0.0192,
  };
  const safe = solve(problem, { tol: 1e-12, maxIter: 5000 });
  const inLogs = solve({ ...problem, eps: 0.019 }, { tol: 1e-12, maxIter: 5000 });
  assertClose(safe.plan, inLogs.plan, 1e-6);
});

test("a dropped cell moves nothing, and all stays finite", () => {
  for (const eps of [0.05, 0.005]) {
    const match = matchCells(a, b, { ...rule, eps, dropped_a: [2], dropped_b: [0, 9] });
    assert.ok(match.plan.every(Number.isFinite));
    assert.ok(total(match.plan.subarray(20, 30)) < 1e-12);
  }
});

test("the plan after the last of some iterations is that of the solver", () => {
  const { cosine, massA, massB, plan, error } = matchCells(a, b, { ...rule, max_iter: 6, tol: 0 });
  const cost = cosine.map((value) => 1 - value);
  const { plans, errors } = traceIterations({ cost, massA, massB, eps: rule.eps }, 6);
  assert.deepEqual(plans[5], plan);
  assert.equal(errors[5], error);
});

test("eigenvectors give the matrix back, also with equal eigenvalues", () => {
  for (const matrix of [
    [
      [2, 1, 0, 0.5],
      [1, 2, 1, 0],
      [0, 1, 2, 1],
      [0.5, 0, 1, 2],
    ],
    [
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 3],
    ],
  ]) {
    const { values, vectors } = symmetricEigen(matrix.map((row) => Float64Array.from(row)));
    const back = matrix.map((row, i) =>
      row.map((_, j) => total(vectors.map((v, k) => values[k] * v[i] * v[j]))),
    );
    assertClose(back.flat(), matrix.flat(), 1e-12);
  }
});

test("parts and the rest add up to the similarity", () => {
  const match = matchCells(a, b, rule);
  const found = findParts(match);
  assert.ok(Math.abs(total(found.contributions) + found.rest - match.similarity) < 1e-12);
  const strengths = total(found.strengths.a);
  assert.ok(Math.abs(strengths - total(found.contributions)) < 1e-12);
});
