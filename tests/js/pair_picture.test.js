import assert from "node:assert/strict";
import { test } from "node:test";
import { pictureBoxes, readPair } from "../../diml_nb/viz/static/pair_data.js";
import {
  cellBox,
  cropWindow,
  crossPath,
  ribbonPath,
} from "../../diml_nb/viz/static/pair_geometry.js";
import { answerText } from "../../diml_nb/viz/static/pair_picture.js";
import { smallPayload } from "./payload.js";

const pair = readPair(smallPayload());

test("cells fill their picture row by row", () => {
  assert.deepEqual(cellBox(pair, ["a", 0]), { x: 0, y: 0, width: 115, height: 115 });
  assert.deepEqual(cellBox(pair, ["a", 1]), { x: 115, y: 0, width: 115, height: 115 });
  assert.deepEqual(cellBox(pair, ["a", 2]), { x: 0, y: 115, width: 115, height: 115 });
});

test("B is drawn right of A, in cells of its own size", () => {
  const { x, y, width } = cellBox(pair, ["b", 8]);
  assert.ok(Math.abs(x + width - 564) < 1e-9);
  assert.ok(Math.abs(y + width - 230) < 1e-9);
  assert.equal(width, 230 / 3);
});

test("a ribbon leads from the middle of a cell to the middle of another", () => {
  const path = ribbonPath(pair, pair.flows[1]);
  const numbers = (path.match(/-?[\d.]+/g) ?? []).map(Number);
  assert.deepEqual(numbers.slice(0, 2), [172.5, 172.5]);
  assert.ok(Math.abs(numbers[6] - (564 - 115 / 3)) < 1e-9);
  assert.ok(Math.abs(numbers[7] - (230 - 115 / 3)) < 1e-9);
});

test("a ribbon leaves and arrives horizontally, after the same reach", () => {
  const even = readPair(smallPayload({ grid_b: [2, 2] }));
  const path = ribbonPath(even, { n: 0, m: 1, mass: 1, cosine: 1, contribution: 1 });
  const numbers = (path.match(/-?[\d.]+/g) ?? []).map(Number);
  const [x, y, firstX, firstY, secondX, secondY, endX, endY] = numbers;
  assert.deepEqual([firstY, secondY], [y, endY]);
  assert.ok(Math.abs(firstX - x - 0.35 * (endX - x)) < 1e-9);
  assert.ok(Math.abs(endX - secondX - 0.35 * (endX - x)) < 1e-9);
});

test("a ribbon between mirrored columns is straight, others are bowed", () => {
  const even = readPair(smallPayload({ grid_b: [2, 2] }));
  const bow = (/** @type {number} */ n, /** @type {number} */ m) => {
    const path = ribbonPath(even, { n, m, mass: 1, cosine: 1, contribution: 1 });
    const numbers = (path.match(/-?[\d.]+/g) ?? []).map(Number);
    return numbers[3] - numbers[1];
  };
  assert.equal(bow(0, 1), 0);
  assert.ok(bow(1, 1) > 0);
  assert.ok(bow(0, 0) < 0);
});

test("a wide picture is as wide as a square one, and stands in its middle", () => {
  const wide = readPair(smallPayload({ grid_a: [1, 4] }));
  wide.boxes = pictureBoxes({ a: { width: 300, height: 200 }, b: { width: 224, height: 224 } });
  const first = cellBox(wide, ["a", 0]);
  const last = cellBox(wide, ["a", 3]);
  assert.ok(Math.abs(first.x) < 1e-9 && Math.abs(last.x + last.width - 230) < 1e-9);
  assert.ok(Math.abs(first.height - 230 / 1.5) < 1e-9);
  assert.ok(Math.abs(first.y + first.height / 2 - 115) < 1e-9);
  assert.deepEqual(wide.boxes.b, { x: 334, y: 0, width: 230, height: 230 });
});

test("a cross is a cell with both diagonals", () => {
  const box = { x: 1, y: 2, width: 10, height: 8 };
  assert.equal(crossPath(box), "M1 2h10v8h-10zl10 8m-10 0l10 -8");
});

test("a crop is a square around the cell, also where the cell is none", () => {
  assert.equal(cropWindow({ x: 10, y: 20, width: 4, height: 4 }), "8 18 8 8");
  assert.equal(cropWindow({ x: 10, y: 20, width: 4, height: 2 }), "8 17 8 8");
});

test("the answer is about the row of the table, then the cell, then the strongest flow", () => {
  const weak = pair.flows[2];
  assert.match(answerText(pair, ["a", 0], weak), /^A 1,1 \u2192 B 1,3: /);
  assert.match(answerText(pair, ["a", 3], null), /^cell A 2,2 /);
  assert.match(answerText(pair, null, null), /^strongest flow A 1,1 \u2192 B 1,2: /);
  assert.equal(answerText({ ...pair, flows: [] }, null, null), "");
});
