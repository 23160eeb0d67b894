/** The structural similarity of a pair and every term of it, as `match_reweighted` computes them. */

import { decodeFloat32, range, sum } from "./dom.js";
import { innerProduct } from "./solver_cells.js";
import { cheapestPlan } from "./solver_exact.js";
import { solve } from "./solver_sinkhorn.js";

/**
 * @import {Grid, Numbers, Side} from "./pair_data.js"
 * @import {Cells} from "./solver_cells.js"
 *
 * @typedef {object} PairTable All that a match reads of the cells of two images.
 * @property {Float64Array} cosine (N, M) of each cell of A with each of B, row by row.
 * @property {Record<Side, Float64Array>} common Of each cell with the whole of the other image: the
 * inner product of their unit vectors.
 * @property {Record<Side, Float64Array>} length Of each cell, before it was made a unit vector.
 * @property {Record<Side, Grid>} grid
 * @property {number} wholeCosine Of the whole images.
 *
 * @typedef {object} TablePayload A table as `pack_table` of the Python library sends it.
 * @property {Record<Side, Grid>} grid
 * @property {Numbers} cosine
 * @property {Record<Side, Numbers>} common
 * @property {Record<Side, Numbers>} length
 * @property {number} whole
 *
 * @typedef {"transport" | "exact" | "best_cell" | "aligned" | "product"} PlanName
 *
 * @typedef {object} MatchRequest How a pair is matched.
 * @property {string} marginals A key of `MARGINAL_RULES`.
 * @property {PlanName} plan
 * @property {number} eps
 * @property {number} [tol]
 * @property {number} max_iter
 * @property {number[]} dropped_a Cells left out of the matching.
 * @property {number[]} dropped_b
 *
 * @typedef {object} Weighed What the plan of a pair depends on.
 * @property {Float64Array} cosine (N, M)
 * @property {Float64Array} massA
 * @property {Float64Array} massB
 * @property {boolean[]} keptA Cells that are not dropped.
 * @property {boolean[]} keptB
 * @property {number} wholeCosine Of the whole images.
 * @property {boolean} usedUniform Some mass was all zero and became equal masses.
 * @property {Grid} gridA
 * @property {Grid} gridB
 *
 * @typedef {object} MatchedPlan
 * @property {Float64Array} plan (N, M)
 * @property {number} similarity S, the sum of plan * cosine.
 * @property {number} error L1 error of the columns where the solver stopped.
 *
 * @typedef {Weighed & MatchedPlan} PairMatch
 */

/* marginals */
/**
 * How much a cell counts: by what it has in common with the other image, and by its length.
 *
 * @type {Record<string, (common: number, length: number) => number>}
 */
export const MARGINAL_RULES = {
  uniform: () => 1,
  cross_correlation: (common) => common,
  cross_correlation_norm: (common, length) => common * length,
  cross_correlation_norm2: (common, length) => common * length ** 2,
  cross_correlation2_norm2: (common, length) => (common * length) ** 2,
};
const TINY = 1.1754943508222875e-38; // the smallest normal float32

/**
 * The masses of the cells of an image beside another one; equal ones if all would be zero.
 *
 * @param {string} marginals
 * @param {Float64Array} common
 * @param {Float64Array} lengths
 * @returns {{mass: Float64Array, isEmpty: boolean}}
 */
export function marginalOf(marginals, common, lengths) {
  const rule = MARGINAL_RULES[marginals];
  const weights = lengths.map((length, n) => rule(Math.max(0, common[n]), length));
  const isEmpty = sum(weights) <= TINY;
  return { mass: shares(isEmpty ? weights.fill(1) : weights), isEmpty };
}

/** @param {Float64Array} weights */
function shares(weights) {
  const total = sum(weights);
  return weights.map((weight) => weight / total);
}

/**
 * The masses without some cells, summing to 1 again; equal ones if nothing would be left.
 *
 * @param {Float64Array} mass
 * @param {boolean[]} kept
 * @returns {{mass: Float64Array, isEmpty: boolean}}
 */
function keepMass(mass, kept) {
  const left = mass.map((value, n) => (kept[n] ? value : 0));
  const isEmpty = sum(left) <= 0;
  return { mass: shares(isEmpty ? Float64Array.from(kept, Number) : left), isEmpty };
}

/* plans */
/**
 * Half of the mass of A goes to the most similar cells of B, half of that of B comes from the most
 * similar cells of A; dropped cells are no partners.
 *
 * @param {Weighed} weighed
 */
function bestCellPlan({ cosine, massA, massB, keptA, keptB }) {
  const width = massB.length;
  const seen = cosine.map((value, i) =>
    keptA[Math.floor(i / width)] && keptB[i % width] ? value : -Infinity,
  );
  const plan = new Float64Array(cosine.length);
  massA.forEach((mass, n) => {
    plan[largestOf(seen, n * width, 1, width)] += mass / 2;
  });
  massB.forEach((mass, m) => {
    plan[largestOf(seen, m, width, massA.length)] += mass / 2;
  });
  return plan;
}

/**
 * The position of the largest of some values; of equal ones the first.
 *
 * @param {ArrayLike<number>} values
 * @param {number} start
 * @param {number} step
 * @param {number} count
 */
export function largestOf(values, start, step, count) {
  let best = start;
  for (let k = 1; k < count; k++) {
    if (values[start + k * step] > values[best]) best = start + k * step;
  }
  return best;
}

/**
 * Each cell keeps its place, if it is there in both images.
 *
 * @param {Weighed} weighed
 */
function alignedPlan({ massA, massB, keptA, keptB }) {
  const moved = massA.map((mass, n) => (keptA[n] && keptB[n] ? (mass + massB[n]) / 2 : 0));
  const total = Math.max(sum(moved), 1e-12);
  const plan = new Float64Array(massA.length * massB.length);
  moved.forEach((mass, n) => {
    plan[n * massB.length + n] = mass / total;
  });
  return plan;
}

/** @param {Weighed} weighed */
function productPlan({ massA, massB }) {
  const width = massB.length;
  return Float64Array.from(
    { length: massA.length * width },
    (_, i) => massA[Math.floor(i / width)] * massB[i % width],
  );
}

/** @type {Record<string, (weighed: Weighed) => Float64Array>} */
const CONTROLS = {
  exact: cheapestPlan,
  best_cell: bestCellPlan,
  aligned: alignedPlan,
  product: productPlan,
};

/* tables */
/**
 * @param {Cells} a
 * @param {Cells} b
 * @returns {PairTable}
 */
export function tableOf(a, b) {
  return {
    cosine: cosines(a, b),
    common: { a: commonOf(a, b), b: commonOf(b, a) },
    length: { a: a.length, b: b.length },
    grid: { a: a.grid, b: b.grid },
    wholeCosine: innerProduct(a.whole, b.whole),
  };
}

/**
 * What each cell of an image has in common with the whole of another.
 *
 * @param {Cells} x
 * @param {Cells} other
 */
export function commonOf(x, other) {
  return Float64Array.from(x.local, (vector) => innerProduct(other.whole, vector));
}

/**
 * @param {TablePayload} payload
 * @returns {PairTable}
 */
export function readTable({ grid, cosine, common, length, whole }) {
  const read = (/** @type {Numbers} */ text) => Float64Array.from(decodeFloat32(text));
  return {
    cosine: read(cosine),
    common: { a: read(common.a), b: read(common.b) },
    length: { a: read(length.a), b: read(length.b) },
    grid,
    wholeCosine: whole,
  };
}

/* match */
/**
 * The cosine of each cell of A with each of B, row by row.
 *
 * @param {Cells} a
 * @param {Cells} b
 */
export function cosines(a, b) {
  const width = b.local.length;
  const values = new Float64Array(a.local.length * width);
  a.local.forEach((x, n) => {
    for (let m = 0; m < width; m++) values[n * width + m] = innerProduct(x, b.local[m]);
  });
  return values;
}

/**
 * The cosines and the masses of two images, without their dropped cells.
 *
 * @param {PairTable} table
 * @param {Pick<MatchRequest, "marginals" | "dropped_a" | "dropped_b">} request
 * @returns {Weighed}
 */
export function weighTable({ cosine, common, length, grid, wholeCosine }, request) {
  const { marginals, dropped_a, dropped_b } = request;
  const keptA = keptCells(length.a.length, dropped_a);
  const keptB = keptCells(length.b.length, dropped_b);
  const before = [
    marginalOf(marginals, common.a, length.a),
    marginalOf(marginals, common.b, length.b),
  ];
  const after = [keepMass(before[0].mass, keptA), keepMass(before[1].mass, keptB)];
  return {
    cosine,
    massA: after[0].mass,
    massB: after[1].mass,
    keptA,
    keptB,
    wholeCosine,
    usedUniform: [...before, ...after].some(({ isEmpty }) => isEmpty),
    gridA: grid.a,
    gridB: grid.b,
  };
}

/**
 * @param {Weighed} weighed
 * @param {MatchRequest} request
 * @returns {PairMatch}
 */
export function matchWeighed(weighed, request) {
  const { plan, error } = movedBy(request, weighed);
  return {
    ...weighed,
    plan,
    error,
    similarity: sum(contributionsOf({ plan, cosine: weighed.cosine })),
    usedUniform: weighed.usedUniform || sum(plan) === 0,
  };
}

/**
 * Match two images.
 *
 * @param {PairTable} table
 * @param {MatchRequest} request
 */
export function matchTable(table, request) {
  return matchWeighed(weighTable(table, request), request);
}

/**
 * @param {number} count
 * @param {number[]} dropped
 */
function keptCells(count, dropped) {
  const gone = new Set(dropped);
  return range(count).map((n) => !gone.has(n));
}

/**
 * @param {MatchRequest} request
 * @param {Weighed} weighed
 * @returns {{plan: Float64Array, error: number}}
 */
function movedBy({ plan, eps, tol, max_iter }, weighed) {
  if (plan !== "transport") return { plan: CONTROLS[plan](weighed), error: 0 };
  return solve(transportProblem(weighed, eps), { tol, maxIter: max_iter });
}

/**
 * @param {{cosine: Float64Array, massA: Float64Array, massB: Float64Array}} numbers
 * @param {number} eps
 */
export function transportProblem({ cosine, massA, massB }, eps) {
  return { cost: cosine.map((value) => 1 - value), massA, massB, eps };
}

/**
 * What each two cells add to the similarity.
 *
 * @param {{plan: Float64Array, cosine: Float64Array}} numbers
 */
export function contributionsOf({ plan, cosine }) {
  return plan.map((mass, i) => mass * cosine[i]);
}

/**
 * What each cell of the first image adds to the similarity.
 *
 * @param {PairMatch} match
 */
export function cellContributions(match) {
  const values = contributionsOf(match);
  const width = match.massB.length;
  return range(match.massA.length).map((n) => sum(values.subarray(n * width, (n + 1) * width)));
}
