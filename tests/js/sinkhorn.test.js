import assert from "node:assert/strict";
import { test } from "node:test";
import { range } from "../../diml_nb/viz/static/dom.js";
import {
  columnGeometry,
  columnSums,
  errorScale,
  iterationText,
  planAfter,
  rowGeometry,
  rowSums,
} from "../../diml_nb/viz/static/sinkhorn.js";
import { encodeFloat32 } from "./payload.js";

const image = { src: "", label: "" };
const trace = {
  pictures: { a: image, b: image },
  plan: encodeFloat32([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
  error_k: [0.5, 0.025],
  mass_a: [0.25, 0.75],
  mass_b: [0.5, 0.25, 0.25],
  eps: "0.05",
};

test("each iteration has its own plan, and all share the largest flow", () => {
  assert.deepEqual([...planAfter(trace, 1).plan], [1, 2, 3, 4, 5, 6]);
  assert.deepEqual([...planAfter(trace, 2).plan], [7, 8, 9, 10, 11, 12]);
  assert.equal(planAfter(trace, 1).maxFlow, 12);
});

test("sums of rows and of columns", () => {
  assert.deepEqual(rowSums(planAfter(trace, 1)), [6, 15]);
  assert.deepEqual(columnSums(planAfter(trace, 1)), [5, 7, 9]);
});

test("bars of columns stand above the plan, those of rows left of it", () => {
  const column = columnGeometry(1, 10);
  assert.deepEqual(column.bar, { x: 29, y: -16, width: 20, height: 10 });
  assert.deepEqual(column.line, { x1: 26, x2: 52, y1: -16, y2: -16 });
  const row = rowGeometry(1, 10);
  assert.deepEqual(row.bar, { x: -16, y: 29, width: 10, height: 20 });
  assert.deepEqual(row.line, { x1: -16, x2: -16, y1: 26, y2: 52 });
});

test("the ticks of the error are powers of ten around all errors", () => {
  const { ticks, x, y } = errorScale(trace.error_k);
  assert.deepEqual(ticks, [-2, -1, 0]);
  assert.deepEqual([x(0), x(1)], [40, 290]);
  assert.deepEqual([y(0), y(-2)], [14, 164]);
  assert.deepEqual(range(3).map(errorScale([1, 0.5, 0.25]).x), [40, 165, 290]);
});

test("a single error, and one of zero, have a scale", () => {
  assert.deepEqual(errorScale([1]).ticks, [-1, 0]);
  assert.equal(errorScale([0]).logs[0], -12);
});

test("an iteration in words", () => {
  assert.match(
    iterationText(trace, 1, 0.25),
    /^After 1 iteration at eps 0\.05, the L1 error of the columns is 5\.00e-1;/,
  );
  assert.match(iterationText(trace, 2, 0.25), /^After 2 iterations .* brightest: 0\.2500\.$/);
});
