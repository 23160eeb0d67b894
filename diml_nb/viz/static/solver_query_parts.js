/** The parts of a query that suit all its candidates, as `query_parts` of the library finds them. */

import { range, sum } from "./dom.js";
import { cellContributions, contributionsOf, largestOf } from "./solver_match.js";
import { findParts } from "./solver_parts.js";

/**
 * @import {Grid} from "./pair_data.js"
 * @import {PairMatch} from "./solver_match.js"
 *
 * @typedef {object} QueryParts
 * @property {number[]} label The part of each cell of the query; -1 for none.
 * @property {number[][]} contributions What the flows of each part add: by candidate, by part.
 * @property {number[]} rest What the flows of cells of no part add to each candidate.
 * @property {number[]} strengths What each cell of the query adds on average.
 * @property {number[][]} candidateLabel For each candidate the part of each of its cells.
 * @property {number[][]} candidateStrengths What each of these cells adds within its part.
 * @property {Grid} grid
 * @property {Grid} candidateGrid
 */

const MIN_QUERY_GAIN = 0.15; // the least modularity of parts that suit all candidates

/* query parts */
/**
 * The candidates side by side, as one picture.
 *
 * @param {PairMatch[]} matches
 * @returns {PairMatch}
 */
function sideBySide(matches) {
  const [first] = matches;
  const share = 1 / matches.length;
  const [n, m] = [first.massA.length, first.massB.length];
  const joined = (/** @type {(match: PairMatch) => Float64Array} */ valuesOf) => {
    const all = new Float64Array(n * m * matches.length);
    for (const row of range(n)) {
      matches.forEach((match, k) => {
        const values = valuesOf(match).subarray(row * m, (row + 1) * m);
        all.set(values, (row * matches.length + k) * m);
      });
    }
    return all;
  };
  return {
    ...first,
    plan: joined(({ plan }) => plan.map((mass) => mass * share)),
    cosine: joined(({ cosine }) => cosine),
    massA: first.massA.map((_, i) => sum(matches.map(({ massA }) => massA[i])) * share),
    massB: Float64Array.from(matches.flatMap(({ massB }) => [...massB.map((x) => x * share)])),
  };
}

/**
 * @param {PairMatch[]} matches of one query, a candidate each
 * @returns {QueryParts}
 */
export function findQueryParts(matches) {
  const { label, contributions } = findParts(sideBySide(matches), MIN_QUERY_GAIN);
  const count = contributions.length;
  const label_a = label.a;
  const found = matches.map((match) => candidateParts(match, label_a, count));
  return {
    label: label_a,
    contributions: found.map(({ adds }) => adds),
    rest: found.map(({ adds, similarity }) => similarity - sum(adds)),
    strengths: label_a.map((_, n) => sum(found.map(({ cells }) => cells[n])) / matches.length),
    candidateLabel: found.map(({ most }) => most.map(({ part }) => part)),
    candidateStrengths: found.map(({ most }) => most.map(({ value }) => value)),
    grid: matches[0].gridA,
    candidateGrid: matches[0].gridB,
  };
}

/**
 * @param {PairMatch} match
 * @param {number[]} label of the cells of the query
 * @param {number} count of parts
 */
function candidateParts(match, label, count) {
  const values = contributionsOf(match);
  const width = match.massB.length;
  const byPart = new Float64Array(count * width);
  label.forEach((part, n) => {
    if (part < 0) return;
    for (const m of range(width)) byPart[part * width + m] += values[n * width + m];
  });
  const most = range(width).map((m) => {
    const best = largestOf(byPart, m, width, count);
    return { part: byPart[best] > 0 ? Math.floor(best / width) : -1, value: byPart[best] };
  });
  return {
    adds: range(count).map((k) => sum(byPart.subarray(k * width, (k + 1) * width))),
    similarity: sum(values),
    cells: cellContributions(match),
    most,
  };
}
