/**
 * Answers of the page's gallery, for tests in Python: `node ranking_answers.js asked.json` writes
 * them as JSON. The file holds what a page holds, and requests.
 */

import { readFileSync } from "node:fs";
import { readGallery } from "../../diml_nb/viz/static/gallery_data.js";
import { createGallerySolver } from "../../diml_nb/viz/static/ranking_answer.js";

const { payload, requests } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const gallery = readGallery(payload.images, payload.gallery);
const values = payload.gains.values.map((/** @type {number | null} */ x) => x ?? Number.NaN);
const gains = { values, rule: payload.gains.rule };
const solver = createGallerySolver(gallery, payload.n_shown, gains);
const answers = requests.map((/** @type {any} */ request) => {
  const { choice, lists, reason } = solver.answer(request);
  return { choice, lists, reason };
});
const last = requests[requests.length - 1].rule;
for (const _ of solver.rankAll(last));
process.stdout.write(JSON.stringify({ answers, gains: solver.gains() }));
