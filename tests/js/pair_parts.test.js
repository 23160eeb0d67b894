import assert from "node:assert/strict";
import { test } from "node:test";
import { readPair } from "../../diml_nb/viz/static/pair_data.js";
import {
  borderPath,
  faceBox,
  partCenter,
  veilPath,
} from "../../diml_nb/viz/static/pair_geometry.js";
import {
  cellPartLabel,
  leftOutText,
  partFlows,
  partSentence,
  partSumText,
  sumBetweenParts,
} from "../../diml_nb/viz/static/pair_parts.js";
import {
  chosenPart,
  DEFAULT_VIEW,
  dropPart,
  fitView,
  partCells,
  partOf,
  togglePart,
} from "../../diml_nb/viz/static/pair_state.js";
import { smallParts, smallPayload } from "./payload.js";

const pair = readPair(smallPayload());
const live = readPair(smallPayload({ live: true }));

test("the part of a cell is that of its side; a cell may have none", () => {
  assert.equal(partOf(pair, ["a", 1]), 0);
  assert.equal(partOf(pair, ["b", 8]), 1);
  assert.equal(partOf(pair, ["a", 2]), null);
  assert.equal(partOf(pair, null), null);
  assert.deepEqual(partCells(pair, "b", 1), [8]);
});

test("the flows of a part run between its cells, the strongest first", () => {
  const ends = (/** @type {number} */ k) => partFlows(pair, k).map(({ n, m }) => [n, m]);
  assert.deepEqual(ends(0), [
    [0, 1],
    [0, 2],
  ]);
  assert.deepEqual(ends(1), [[3, 8]]);
});

test("what flows between parts is added up", () => {
  assert.equal(sumBetweenParts(pair), 0);
  const label = { a: [0, 0, -1, 1], b: [0, 0, 1, 0, 0, 0, -1, -1, 1] };
  assert.equal(sumBetweenParts({ ...pair, parts: { ...pair.parts, label } }), -0.125);
});

test("the sum in words shows an error", () => {
  assert.equal(partSumText(pair), "0.1250 + 0.1250 + rest 0.0000 = 0.2500 = S, residual 0e+0");
  assert.match(partSumText({ ...pair, similarity: 0.5 }), /residual 3e-1$/);
});

test("what is left without some parts", () => {
  assert.equal(leftOutText(pair, []), "");
  assert.equal(leftOutText(pair, [1]), "S without what part 2 adds: 0.1250");
  assert.equal(leftOutText(pair, [0, 1]), "S without what parts 1 and 2 add: 0.0000");
});

test("sentences about parts", () => {
  assert.equal(
    partSentence(pair, 1),
    "part 2: 1 cell of A (mass 0.2500) and 1 cell of B (mass 0.2500); " +
      "mass 0.2500 moves within it, mean cosine 0.5000; adds 0.1250 to S = 0.2500 (50.0%)",
  );
  assert.match(partSentence(pair, 0), /^part 1: 2 cells of A \(mass 0.6875\) and 6 cells of B/);
  assert.equal(cellPartLabel(pair, ["a", 3]), "A 2,2: part 2");
  assert.equal(cellPartLabel(pair, ["b", 6]), "B 3,1: no part");
});

test("a row under the pointer comes before a locked part, that before a cell, that before focus", () => {
  const ui = /** @type {any} */ ({
    pair,
    view: { ...DEFAULT_VIEW, part: 1 },
    hoveredPart: 0,
    hovered: ["a", 0],
    focusedPart: 1,
    focused: ["a", 3],
  });
  assert.equal(chosenPart(ui), 0);
  assert.equal(chosenPart({ ...ui, hoveredPart: null }), 1);
  const unlocked = { ...ui, hoveredPart: null, view: DEFAULT_VIEW };
  assert.equal(chosenPart(unlocked), 0);
  assert.equal(chosenPart({ ...unlocked, hovered: ["a", 2] }), 1);
  assert.equal(chosenPart({ ...unlocked, hovered: null, focusedPart: null }), 1);
  assert.equal(chosenPart({ ...unlocked, hovered: null, focusedPart: null, focused: null }), null);
});

test("a part is locked, and a second time unlocked", () => {
  assert.deepEqual(togglePart(DEFAULT_VIEW, 1), { part: 1 });
  assert.deepEqual(togglePart({ ...DEFAULT_VIEW, part: 1 }, 1), { part: null });
});

test("where nobody computes, a part is left out of the sum, and put back", () => {
  const view = { ...DEFAULT_VIEW, left_out: [1] };
  assert.deepEqual(dropPart(view, pair, 0), { left_out: [0, 1] });
  assert.deepEqual(dropPart(view, pair, 1), { left_out: [] });
});

test("in a live view a part takes its cells of both pictures with it", () => {
  const view = { ...DEFAULT_VIEW, part: 1, dropped_a: [0, 3], dropped_b: [6] };
  assert.deepEqual(dropPart(view, live, 1), { part: null, dropped_a: [0, 3], dropped_b: [6, 8] });
  assert.deepEqual(view.dropped_b, [6]);
});

test("the only part cannot be dropped", () => {
  const parts = { ...smallParts(), list: smallParts().list.slice(0, 1) };
  assert.deepEqual(dropPart(DEFAULT_VIEW, readPair(smallPayload({ parts, live: true })), 0), {});
});

test("another pair forgets the cells and the parts that it does not have", () => {
  const view = {
    ...DEFAULT_VIEW,
    part: 2,
    left_out: [1, 2],
    locked: /** @type {any} */ (["a", 4]),
  };
  const fitted = { part: null, left_out: [1], locked: null };
  assert.deepEqual(fitView(view, pair), { ...DEFAULT_VIEW, ...fitted });
  const same = { ...DEFAULT_VIEW, part: 1, locked: /** @type {any} */ (["b", 8]) };
  assert.deepEqual(fitView(same, pair), same);
});

test("the border of a part has each outer side of its cells once, and no inner one", () => {
  assert.equal(borderPath(pair, "a", 1), "M115 115h115M115 230h115M115 115v115M230 115v115");
  const two = borderPath(pair, "a", 0);
  assert.equal(two.split("M").length - 1, 6);
  assert.ok(!two.includes("M115 0v"));
});

test("a veil leaves the cells of a part open", () => {
  assert.equal(veilPath(pair, "a", 1), "M0 0h230v230h-230zM115 115h115v115h-115z");
});

test("a face lies where its shares of the picture say", () => {
  const picture = { x: 10, y: 20, width: 200, height: 100 };
  assert.deepEqual(faceBox(picture, [0.25, 0.5, 0.5, 1]), { x: 60, y: 70, width: 50, height: 50 });
  assert.deepEqual(partCenter(pair, "a", 1), [172.5, 172.5]);
});
