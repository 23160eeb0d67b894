/** `node measure.js`: processor time that an answer takes, by grid and plan; medians of 9. */

import { answerPair } from "../../diml_nb/viz/static/pair_answer.js";
import { createGallerySolver } from "../../diml_nb/viz/static/ranking_answer.js";
import { matchTable, tableOf } from "../../diml_nb/viz/static/solver_match.js";
import { findParts } from "../../diml_nb/viz/static/solver_parts.js";
import { randomCells, randomGallery, rule } from "./random_cells.js";

/** @param {() => unknown} work */
function milliseconds(work) {
  work();
  const times = Array.from({ length: 9 }, () => {
    const start = process.cpuUsage();
    for (let i = 0; i < 5; i++) work();
    return process.cpuUsage(start).user / 5000;
  });
  return times.sort((x, y) => x - y)[4].toFixed(2);
}

/** @type {[number, number][]} */
const SIZES = [
  [4, 128],
  [7, 128],
  [7, 98],
  [14, 128],
  [14, 392],
];
for (const [grid, channels] of SIZES) {
  const [a, b] = [1, 2].map((seed) => randomCells([grid, grid], channels, seed));
  const table = tableOf(a, b);
  const match = matchTable(table, rule);
  const request = { ...rule, grid, top: 12, view: { dropped_a: [0], dropped_b: [] } };
  console.log(`${grid} x ${grid} cells, ${channels} channels:`, {
    match: milliseconds(() => matchTable(tableOf(a, b), { ...rule, tol: 0, max_iter: 100 })),
    small_eps: milliseconds(() => matchTable(table, { ...rule, eps: 0.01, tol: 0, max_iter: 100 })),
    cheapest: milliseconds(() => matchTable(table, { ...rule, plan: "exact" })),
    parts: milliseconds(() => findParts(match)),
    answer: milliseconds(() => answerPair(tableOf(a, b), request)),
  });
}

for (const grid of [4, 7]) {
  const gallery = randomGallery(21, [grid, grid], 64);
  const galleryRule = { ...rule, grid };
  const solver = createGallerySolver(gallery, 8, { values: [], rule: galleryRule });
  const choice = { first: 1, second: 2, dropped: [0], by_cells: true };
  let eps = 0.05;
  console.log(`a list of 20, ${grid} x ${grid} cells:`, {
    answer: milliseconds(() => {
      eps *= 1.0001; // another rule, so that nothing is kept
      solver.answer({ show: "all", query: 0, rule: { ...galleryRule, eps }, choice });
    }),
  });
}
