/**
 * Answers of the page's solver, for tests in Python: `node answers.js cases.json` writes them as
 * JSON. A case holds the maps of a pair and requests about it.
 */

import { readFileSync } from "node:fs";
import { createPairSolver } from "../../diml_nb/viz/static/pair_answer.js";

/**
 * @param {string} _
 * @param {unknown} value
 */
function plain(_, value) {
  return ArrayBuffer.isView(value) ? Array.from(/** @type {Float64Array} */ (value)) : value;
}

const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));
const answers = cases.map((/** @type {any} */ { maps, requests }) => {
  const answer = createPairSolver(maps);
  return requests.map(answer);
});
process.stdout.write(JSON.stringify(answers, plain));
