import assert from "node:assert/strict";
import { test } from "node:test";
import {
  changeDropped,
  partsLabel,
  partText,
  shownCells,
} from "../../diml_nb/viz/static/ranking_parts.js";

test("a part is dropped and taken back, in any order", () => {
  assert.deepEqual(changeDropped([], 1, true), [1]);
  assert.deepEqual(changeDropped([1], 0, true), [0, 1]);
  assert.deepEqual(changeDropped([0, 1], 0, false), [1]);
  assert.deepEqual(changeDropped([1], 1, true), [1]);
  assert.deepEqual(changeDropped([2], 10, true), [2, 10]);
});

test("what is dropped is not changed in place", () => {
  const dropped = [2];
  changeDropped(dropped, 1, true);
  assert.deepEqual(dropped, [2]);
});

test("cells of a dropped part and of none are not shown", () => {
  const cells = { src: "", grid: [2, 3], part: [0, -1, 1, 1, 0, 0], opacity: [1, 1, 0.5, 1, 0, 1] };
  assert.deepEqual(shownCells(cells, [0]), [
    { x: 2, y: 0, part: 1, opacity: 0.5 },
    { x: 0, y: 1, part: 1, opacity: 1 },
  ]);
  assert.equal(shownCells(cells, []).length, 5);
  assert.equal(shownCells(cells, [0, 1]).length, 0);
});

test("a part and the picture in words", () => {
  const part = { name: "2", color: "", src: "", x: 0, y: 0, adds: 0.12345 };
  assert.equal(partText(part), "part 2, adds 0.1235");
  assert.equal(partsLabel(3, []), "the query in 3 parts");
  assert.equal(partsLabel(3, [1]), "the query in 3 parts, 1 of them dropped");
});
