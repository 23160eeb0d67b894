import assert from "node:assert/strict";
import { test } from "node:test";
import { readPair } from "../../diml_nb/viz/static/pair_data.js";
import {
  DEFAULT_VIEW,
  droppedCells,
  moveCell,
  toggleDropped,
} from "../../diml_nb/viz/static/pair_state.js";
import { smallPayload } from "./payload.js";

const pair = readPair(smallPayload());

test("a dropped cell is kept in ascending order, and a second time taken back", () => {
  const view = { ...DEFAULT_VIEW, dropped_a: [1, 10] };
  assert.deepEqual(toggleDropped(view, ["a", 2]), { dropped_a: [1, 2, 10] });
  assert.deepEqual(toggleDropped(view, ["a", 10]), { dropped_a: [1] });
  assert.deepEqual(toggleDropped(view, ["b", 10]), { dropped_b: [10] });
});

test("a change leaves the old state as it was", () => {
  const view = { ...DEFAULT_VIEW, dropped_b: [5] };
  toggleDropped(view, ["b", 3]);
  assert.deepEqual(view.dropped_b, [5]);
  assert.deepEqual(droppedCells(view, "b"), [5]);
  assert.deepEqual(droppedCells(view, "a"), []);
});

test("the last row and the last column of a grid that is not square", () => {
  const wide = readPair(smallPayload({ grid_a: [1, 4] }));
  assert.deepEqual(moveCell(wide, ["a", 1], "ArrowDown"), ["a", 1]);
  assert.deepEqual(moveCell(wide, ["a", 0], "End"), ["a", 3]);
});

test("arrows move by a row or a column of the grid of that side", () => {
  assert.deepEqual(moveCell(pair, ["b", 4], "ArrowLeft"), ["b", 3]);
  assert.deepEqual(moveCell(pair, ["b", 4], "ArrowRight"), ["b", 5]);
  assert.deepEqual(moveCell(pair, ["b", 4], "ArrowUp"), ["b", 1]);
  assert.deepEqual(moveCell(pair, ["b", 4], "ArrowDown"), ["b", 7]);
  assert.deepEqual(moveCell(pair, ["b", 8], "ArrowUp"), ["b", 5]);
  assert.deepEqual(moveCell(pair, ["b", 0], "ArrowDown"), ["b", 3]);
  assert.deepEqual(moveCell(pair, ["b", 0], "ArrowRight"), ["b", 1]);
  assert.deepEqual(moveCell(pair, ["b", 2], "ArrowLeft"), ["b", 1]);
  assert.deepEqual(moveCell(pair, ["a", 0], "ArrowDown"), ["a", 2]);
});

test("at the border a cell stays where it is", () => {
  assert.deepEqual(moveCell(pair, ["b", 2], "ArrowRight"), ["b", 2]);
  assert.deepEqual(moveCell(pair, ["b", 3], "ArrowLeft"), ["b", 3]);
  assert.deepEqual(moveCell(pair, ["b", 1], "ArrowUp"), ["b", 1]);
  assert.deepEqual(moveCell(pair, ["b", 7], "ArrowDown"), ["b", 7]);
});

test("Home and End lead to the ends of the row", () => {
  assert.deepEqual(moveCell(pair, ["b", 4], "Home"), ["b", 3]);
  assert.deepEqual(moveCell(pair, ["b", 4], "End"), ["b", 5]);
});

test("other keys do not move, whatever they are called", () => {
  for (const key of ["x", "Enter", "Tab", "toString", "constructor"]) {
    assert.equal(moveCell(pair, ["a", 0], key), null);
  }
});
