import assert from "node:assert/strict";
import { test } from "node:test";
import {
  cellFlows,
  cellLabel,
  cellName,
  cellPosition,
  cellSentence,
  flowAt,
  flowName,
  flowSentence,
  isOutside,
  readPair,
  sameCell,
  shareText,
  strongestFlows,
  targetText,
} from "../../diml_nb/viz/static/pair_data.js";
import { smallPayload } from "./payload.js";

const pair = readPair(smallPayload());

test("a payload is decoded", () => {
  assert.deepEqual(pair.grid, { a: [2, 2], b: [3, 3] });
  assert.equal(pair.columns, 9);
  assert.equal(pair.plan.length, 36);
  assert.equal(pair.maxFlow, 0.5);
  assert.deepEqual(pair.maxMass, { a: 0.625, b: 0.5 });
  assert.equal(pair.text, "in words");
});

test("contributions are float32 products", () => {
  assert.ok(pair.contributions instanceof Float32Array);
  assert.equal(pair.contributions[1], 0.25);
  assert.equal(pair.contributions[2], -0.125);
});

test("the position of a flow in the plan gives its cells", () => {
  const flow = { n: 3, m: 8, mass: 0.25, cosine: 0.5, contribution: 0.125 };
  assert.deepEqual(flowAt(pair, 35), flow);
});

test("flows are sorted by what they contribute, and zeros are none", () => {
  const contributions = pair.flows.map((flow) => flow.contribution);
  assert.deepEqual(contributions, [0.25, 0.125, -0.125]);
});

test("at most `top` flows are shown", () => {
  assert.equal(readPair(smallPayload({ top: 2 })).flows.length, 2);
  assert.equal(strongestFlows({ ...pair, top: 1 }, [1, 2, 35]).length, 1);
});

test("a cell of A has the flows of its row, a cell of B those of its column", () => {
  const targets = cellFlows(pair, ["a", 0]).map((flow) => flow.m);
  const sources = cellFlows(pair, ["b", 8]).map((flow) => flow.n);
  assert.deepEqual(targets, [1, 2]);
  assert.deepEqual(sources, [3]);
  assert.deepEqual(cellFlows(pair, ["a", 1]), []);
});

test("a cell behind the last one is outside of the grid of its side", () => {
  assert.equal(isOutside(pair, ["a", 4]), true);
  assert.equal(isOutside(pair, ["b", 4]), false);
});

test("cells are the same by side and number", () => {
  assert.ok(sameCell(["a", 1], ["a", 1]));
  assert.ok(!sameCell(["a", 1], ["b", 1]));
  assert.ok(!sameCell(["a", 1], ["a", 11]));
  assert.ok(!sameCell(["a", 1], null));
  assert.ok(sameCell(null, null));
});

test("cells are named by row and column, counted from 1, in the grid of their side", () => {
  assert.equal(cellPosition(pair, ["a", 3]), "2,2");
  assert.equal(cellPosition(pair, ["b", 3]), "2,1");
  assert.equal(cellName(pair, ["b", 8]), "B 3,3");
  assert.equal(flowName(pair, pair.flows[1]), "A 2,2 \u2192 B 3,3");
});

test("a share is told of a positive similarity only", () => {
  assert.equal(shareText(pair, pair.flows[0]), "; adds 0.2500 to S = 0.2500 (100.0%)");
  const negative = { ...pair, similarity: -1 };
  assert.equal(shareText(negative, pair.flows[0]), "; adds 0.2500 to S = -1.0000");
});

test("mass goes from A and comes to B", () => {
  const [flow] = pair.flows;
  assert.equal(targetText(pair, ["a", 0], flow), "mass 0.6250, 80% of it goes to B 1,2");
  assert.equal(targetText(pair, ["b", 1], flow), "mass 0.5000, 100% of it comes from A 1,1");
  assert.equal(targetText(pair, ["a", 1], undefined), "mass 0.0625, moves nothing");
});

test("sentences about cells and flows", () => {
  assert.equal(cellLabel(pair, ["a", 3]), "A 2,2: mass 0.2500, 100% of it goes to B 3,3");
  assert.equal(
    cellSentence(pair, ["a", 1]),
    "cell A 1,2 (row, column): mass 0.0625, moves nothing",
  );
  assert.equal(
    cellSentence(pair, ["b", 8]),
    "cell B 3,3 (row, column): mass 0.2500, 100% of it comes from A 2,2; " +
      "adds 0.1250 to S = 0.2500 (50.0%)",
  );
  assert.equal(
    flowSentence(pair, pair.flows[2]),
    "A 1,1 \u2192 B 1,3: mass 0.1250, cosine -1.0000; adds -0.1250 to S = 0.2500 (-50.0%)",
  );
});
