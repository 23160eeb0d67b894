import assert from "node:assert/strict";
import { test } from "node:test";
import {
  dropCellText,
  hintText,
  scaleText,
  scoreText,
  takeBackText,
  touchHintText,
} from "../../diml_nb/viz/static/pair.js";
import { readPair } from "../../diml_nb/viz/static/pair_data.js";
import { DEFAULT_VIEW } from "../../diml_nb/viz/static/pair_state.js";
import {
  barScale,
  runningShares,
  solverText,
  sparkPoints,
  tableFlows,
  toCsv,
  waterfall,
} from "../../diml_nb/viz/static/pair_sums.js";
import { encodeFloat32, smallPayload } from "./payload.js";

const pair = readPair(smallPayload());

/**
 * @param {number} from
 * @param {number} to
 */
function bar(from, to) {
  return { label: "", from, to, kind: /** @type {const} */ ("plus"), text: "" };
}

test("a chart shows 0 and all of its bars, and no more", () => {
  const { position, length } = barScale([bar(0, 2), bar(2, -1)]);
  assert.equal(position(-1), 0);
  assert.ok(Math.abs(position(2) - 100) < 1e-9);
  assert.ok(Math.abs(length(-3) - 100) < 1e-9);
  assert.equal(barScale([bar(1, 2)]).position(0), 0);
});

test("a chart of zeros has finite places", () => {
  assert.equal(barScale([bar(0, 0)]).position(0), 0);
});

test("the waterfall goes from the cosine to the score without gaps", () => {
  const { bars, check } = waterfall(pair);
  const [first, ...rest] = bars;
  const last = rest.pop();
  assert.deepEqual([first.from, first.to], [0, 0.5]);
  assert.deepEqual([last?.from, last?.to], [0, 0.75]);
  let end = first.to;
  for (const step of rest) {
    assert.equal(step.from, end);
    end = step.to;
  }
  assert.equal(end, 0.75);
  assert.equal(check, "sum 0.7500 = score 0.7500, residual 0e+0");
});

test("signs show in the kind and in the text of a step", () => {
  const { bars } = waterfall(pair);
  assert.deepEqual(
    bars.slice(1, 4).map((step) => step.text),
    ["+0.2500", "+0.1250", "-0.1250"],
  );
  assert.deepEqual(
    bars.map((step) => step.kind),
    ["total", "plus", "plus", "minus", "plus", "total"],
  );
});

test("the flows that are not shown are one step", () => {
  const { bars } = waterfall(readPair(smallPayload({ top: 1 })));
  assert.equal(bars.length, 4);
  assert.equal(bars[2].label, "the other 35 flows");
  assert.equal(bars[2].to - bars[2].from, 0);
});

test("a single flow that is not shown is a step, too", () => {
  const one = smallPayload({
    grid_a: [1, 1],
    grid_b: [1, 1],
    plan: encodeFloat32([1]),
    local: encodeFloat32([0.25]),
    mass_a: encodeFloat32([1]),
    mass_b: encodeFloat32([1]),
  });
  assert.equal(waterfall(readPair(one)).bars.length, 3);
  const { bars, check } = waterfall(readPair({ ...one, top: 0 }));
  assert.equal(bars[1].label, "the other 1 flows");
  assert.match(check, /residual 0e\+0$/);
});

test("a wrong similarity shows as a residual", () => {
  assert.match(waterfall({ ...pair, similarity: 0.35 }).check, /residual 1e-1$/);
});

test("the table is sorted by the chosen column", () => {
  const masses = tableFlows(pair, { ...DEFAULT_VIEW, sort: "mass" }).map((flow) => flow.mass);
  assert.deepEqual(masses, [0.5, 0.25, 0.125]);
  const cosines = tableFlows(pair, { ...DEFAULT_VIEW, sort: "cosine" }).map((flow) => flow.cosine);
  assert.deepEqual(cosines, [0.5, 0.5, -1]);
});

test("sorting the table leaves the pair as it was", () => {
  const before = [...pair.flows];
  tableFlows({ ...pair, flows: before }, { ...DEFAULT_VIEW, sort: "mass" }).reverse();
  assert.deepEqual(before, pair.flows);
});

test("a locked cell fills the table", () => {
  const flows = tableFlows(pair, { ...DEFAULT_VIEW, locked: ["b", 8] });
  assert.deepEqual(flows, [pair.flows[1]]);
});

test("shares are added up in the order of the rows", () => {
  assert.deepEqual(runningShares(pair.flows, 0.25), ["100.0%", "150.0%", "100.0%"]);
  assert.deepEqual(runningShares(pair.flows.slice(0, 1), 0), ["\u2013"]);
});

test("a CSV file has a header, a row for each flow, and a last newline", () => {
  assert.equal(toCsv(pair.flows.slice(1, 2)), "n,m,mass,cosine,contribution\n3,8,0.25,0.5,0.125\n");
  assert.equal(toCsv([]), "n,m,mass,cosine,contribution\n");
});

test("geometric convergence is a straight line", () => {
  assert.equal(sparkPoints([0.1, 0.01, 0.001]), "0,2 50,20 100,38");
  assert.equal(sparkPoints([0.5]), "0,2");
  assert.equal(sparkPoints([0.1, 0]), sparkPoints([0.1, 1e-9]));
});

test("the solver's history in words", () => {
  const text = "L1 error of the columns: 5e-1 after 1 iteration, 5e-3 after 3 (log scale)";
  assert.equal(solverText([0.5, 0.05, 0.005]), text);
});

test("the lines of the page", () => {
  assert.equal(scoreText(pair), "similarity S = 0.2500, score = cosine + S = 0.7500");
  assert.equal(scaleText(pair, false), "widest ribbon: mass 0.5000");
  assert.match(scaleText(pair, true), /; brightest cells: 0\.6250 and 0\.5000$/);
  assert.match(hintText(true, "flows"), /drops a cell/);
  assert.match(hintText(true, "parts"), /drops a part/);
  assert.match(hintText(false, "parts"), /leaves it out of the sum/);
  assert.doesNotMatch(hintText(false, "flows"), /drop|leaves/);
});

test("fingers are told of taps, and of dropping where it is possible", () => {
  for (const mode of /** @type {const} */ (["parts", "flows"])) {
    for (const live of [true, false]) {
      const words = touchHintText(live, mode);
      assert.doesNotMatch(words, /key|click|Enter|Escape|Tab /);
      assert.equal(/dropped/.test(words), live && mode === "flows");
    }
  }
});

test("a locked cell can be dropped and taken back", () => {
  const view = { ...DEFAULT_VIEW, locked: /** @type {["a", number]} */ (["a", 3]) };
  assert.equal(dropCellText(view), "drop this cell");
  assert.equal(dropCellText({ ...view, dropped_b: [3] }), "drop this cell");
  assert.equal(dropCellText({ ...view, dropped_a: [3] }), "take this cell back");
});

test("dropped cells can be taken back where there are some", () => {
  assert.equal(takeBackText(DEFAULT_VIEW), "");
  assert.equal(takeBackText({ ...DEFAULT_VIEW, dropped_b: [7] }), "take back 1 dropped cell");
  const view = { ...DEFAULT_VIEW, dropped_a: [1, 2], dropped_b: [7] };
  assert.equal(takeBackText(view), "take back 3 dropped cells");
});
