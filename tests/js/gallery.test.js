import assert from "node:assert/strict";
import { test } from "node:test";
import { readGallery } from "../../diml_nb/viz/static/gallery_data.js";
import {
  averagePrecision,
  dropQueryParts,
  findLists,
  gainOf,
  placesWon,
  queriesByGain,
} from "../../diml_nb/viz/static/gallery_lists.js";
import { createModel } from "../../diml_nb/viz/static/page_controls.js";
import { createGallerySolver } from "../../diml_nb/viz/static/ranking_answer.js";
import {
  gainCounts,
  gainWord,
  moveSentence,
  partNames,
  precisionText,
  ruleText,
} from "../../diml_nb/viz/static/ranking_text.js";
import { findQueryParts } from "../../diml_nb/viz/static/solver_query_parts.js";
import { encodeFloat32 } from "./payload.js";
import { randomGallery } from "./random_cells.js";

/** @type {import("../../diml_nb/viz/static/gallery_lists.js").GalleryRule} */
const galleryRule = { grid: 3, marginals: "cross_correlation", eps: 0.05, plan: "transport" };
const gallery = randomGallery(9, [3, 3], 6);

/** @param {Iterable<number>} x */
function total(x) {
  return [...x].reduce((a, b) => a + b, 0);
}

/** @param {number[]} numbers */
function encodeInt16(numbers) {
  return Buffer.from(Int16Array.from(numbers, (x) => Math.round(32767 * x)).buffer).toString(
    "base64",
  );
}

test("a table is turned round for the larger number", () => {
  const image = { src: "", name: "", kind: 0 };
  const read = readGallery([image, image], {
    grid: [1, 2],
    top_k: 1,
    order: [[1], [0]],
    pairs: [[0, 1]],
    cosine: encodeInt16([0.1, 0.2, 0.3, 0.4]),
    common: encodeInt16([0.5, 0.6, 0.7, 0.8]),
    whole: encodeFloat32([0.25]),
    length: encodeFloat32([1, 2, 3, 4]),
  });
  const digits = (/** @type {Float64Array} */ x) => [...x].map((value) => Number(value.toFixed(4)));
  const turned = read.tableOf(1, 0);
  assert.deepEqual(digits(read.tableOf(0, 1).cosine), [0.1, 0.2, 0.3, 0.4]);
  assert.deepEqual(digits(turned.cosine), [0.1, 0.3, 0.2, 0.4]);
  assert.deepEqual(digits(turned.common.a), [0.7, 0.8]);
  assert.deepEqual(digits(turned.length.a), [3, 4]);
  assert.equal(turned.wholeCosine, 0.25);
  assert.throws(() => read.tableOf(0, 0), /no table/);
});

test("a list is sorted by cosine + S, and dropped parts are taken from it", () => {
  const found = findLists(gallery, 0, galleryRule);
  const scores = found.after.map(({ score }) => score);
  assert.deepEqual(
    scores,
    [...scores].sort((x, y) => y - x),
  );
  const first = found.candidates.indexOf(found.after[0].index);
  const { wholeCosine, similarity } = found.matches[first];
  assert.equal(scores[0], wholeCosine + similarity);
  const less = dropQueryParts(found, [0]);
  const lost = found.byPart.contributions[first][0];
  const now = less.after.find(({ index }) => index === found.after[0].index);
  assert.ok(now && Math.abs(now.score - (scores[0] - lost)) < 1e-12);
  assert.equal(dropQueryParts(found, []), found);
});

test("the parts of a query and the rest add up for each candidate", () => {
  const { matches } = findLists(gallery, 2, galleryRule);
  const parts = findQueryParts(matches);
  matches.forEach(({ similarity }, k) => {
    const sum = total(parts.contributions[k]) + parts.rest[k];
    assert.ok(Math.abs(sum - similarity) < 1e-12);
  });
  assert.equal(parts.label.length, 9);
  assert.ok(parts.candidateLabel.every((label) => label.length === 9));
});

test("average precision at R", () => {
  const kinds = [0, 0, 1, 0, 1, 2];
  const images = kinds.map((kind) => ({ src: "", name: "", kind }));
  const order = kinds.map((_, q) => kinds.map((_k, n) => n).filter((n) => n !== q));
  const some = { ...gallery, images, order };
  const head = (/** @type {number[]} */ list) => list.map((index) => ({ index, score: 0 }));
  assert.equal(averagePrecision(some, 0, head([1, 3])), 1);
  assert.equal(averagePrecision(some, 0, head([2, 1])), 0.25);
  assert.equal(averagePrecision(some, 0, []), 0.5); // the list as it is: 1 is right, 2 is not
  assert.ok(Number.isNaN(averagePrecision(some, 5, [])));
});

test("places won, and queries by their gain", () => {
  assert.deepEqual(
    [...placesWon([4, 5, 6], [6, 4, 5])],
    [
      [6, 2],
      [4, -1],
      [5, -1],
    ],
  );
  const gains = [0.1, -0.2, 0, Number.NaN];
  assert.deepEqual(queriesByGain(gains, "helped"), [0]);
  assert.deepEqual(queriesByGain(gains, "hurt"), [1]);
  assert.equal(queriesByGain(gains, "all").length, 4);
  assert.equal(
    gainCounts(gains),
    "1 helped, 1 hurt, 1 unchanged, 1 without another image of their class",
  );
});

test("all queries are ranked step by step", () => {
  const solver = createGallerySolver(gallery, 3, { values: [], rule: galleryRule });
  const steps = [...solver.rankAll({ ...galleryRule, eps: 0.2 })];
  assert.deepEqual(steps, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.equal(solver.gains()[3], gainOf(gallery, 3, { ...galleryRule, eps: 0.2 }));
});

test("an answer has the candidates that were chosen, as far as they are there", () => {
  const solver = createGallerySolver(gallery, 3, { values: [0, 0], rule: galleryRule });
  const choice = { first: 99, second: 2, dropped: [0, 77], by_cells: false };
  const answer = solver.answer({ show: "hurt", query: 0, rule: galleryRule, choice });
  assert.equal(answer.choice.first, answer.found.after[0].index);
  assert.equal(answer.choice.second, 2);
  assert.ok(answer.lists.says.endsWith("No query is hurt; all are shown."));
  assert.ok(answer.reason);
  const rows = answer.reason?.rows ?? [];
  const terms = total(rows.slice(0, -1).map(({ difference }) => difference));
  assert.ok(Math.abs(terms - rows[rows.length - 1].difference) < 1e-12);
});

test("sentences about lists", () => {
  assert.equal(partNames([1]), "part 2");
  assert.equal(partNames([0, 2]), "parts 1, 3");
  assert.equal(precisionText(Number.NaN), "none");
  // as f"{x:.3f}" of Python: halfway to the even digit, and 0.0005 is a little more than halfway
  const rounded = [0.0625, 0.1875, 0.3125, 0.9375, 0.0005, 0.0015, 1 / 3, 1].map(precisionText);
  assert.deepEqual(rounded, [
    "0.062",
    "0.188",
    "0.312",
    "0.938",
    "0.001",
    "0.002",
    "0.333",
    "1.000",
  ]);
  assert.equal(gainWord(0.5, 0.6), "helped");
  assert.equal(gainWord(Number.NaN, Number.NaN), "without another image of its class");
  assert.equal(
    ruleText({ ...galleryRule, eps: 0.044668, plan: "product" }),
    "grid 3, cross correlation (the paper's), eps 0.0447, no matching",
  );
  const images = ["a", "b", "c"].map((name) => ({ src: "", name, kind: 0 }));
  assert.equal(
    moveSentence(images, placesWon([0, 1, 2], [2, 0, 1])),
    "1 of 3 candidates rise, most of all c (+2 places); 2 fall, most of all a (-1).",
  );
  assert.equal(moveSentence(images, placesWon([0, 1], [0, 1])), "No candidate changes its place.");
});

test("a model tells those who listen, and saves for its owner", () => {
  let heard = 0;
  let saved = 0;
  const model = createModel({ value: 1 }, () => {
    saved += 1;
  });
  const listener = () => {
    heard += 1;
  };
  model.on("change:value", listener);
  model.set("value", 2);
  model.save_changes();
  model.off("change:value", listener);
  model.set("value", 3);
  assert.deepEqual([model.get("value"), heard, saved], [3, 1, 1]);
});
