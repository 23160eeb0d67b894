/** The lists of a gallery before and after re-ranking, and without parts, as 46_lists makes them. */

import { range, sum } from "./dom.js";
import { matchTable } from "./solver_match.js";
import { findQueryParts } from "./solver_query_parts.js";

/**
 * @import {Gallery} from "./gallery_data.js"
 * @import {PairMatch, PlanName} from "./solver_match.js"
 * @import {QueryParts} from "./solver_query_parts.js"
 *
 * @typedef {object} GalleryRule How pairs are matched.
 * @property {number} grid
 * @property {string} marginals
 * @property {number} eps
 * @property {PlanName} plan
 *
 * @typedef {{index: number, score: number}[]} ScoredList Positions in the gallery, best first.
 *
 * @typedef {object} QueryLists One query under one rule.
 * @property {PairMatch[]} matches With each candidate, in the order of the cosine.
 * @property {number[]} candidates
 * @property {ScoredList} before
 * @property {ScoredList} after
 * @property {QueryParts} byPart
 * @property {boolean} hasParts A single part is all of the query.
 */

/* query lists */
/**
 * @param {Gallery} gallery
 * @param {number} q
 * @param {GalleryRule} rule
 */
function matchHead(gallery, q, { marginals, eps, plan }) {
  const request = { marginals, eps, plan, max_iter: 200, dropped_a: [], dropped_b: [] };
  const candidates = gallery.order[q].slice(0, gallery.topK);
  const matches = candidates.map((n) => matchTable(gallery.tableOf(q, n), request));
  return { candidates, matches };
}

/**
 * The head of a list by cosine + S; of equal scores the one that the cosine had first.
 *
 * @param {number[]} candidates
 * @param {PairMatch[]} matches
 * @param {number[]} [lost] What is taken from S of each candidate.
 * @returns {ScoredList}
 */
function rerank(candidates, matches, lost = candidates.map(() => 0)) {
  return matches
    .map(({ wholeCosine, similarity }, k) => ({
      index: candidates[k],
      score: wholeCosine + similarity - lost[k],
    }))
    .sort((x, y) => y.score - x.score);
}

/**
 * @param {Gallery} gallery
 * @param {number} q
 * @param {GalleryRule} rule
 * @returns {QueryLists}
 */
export function findLists(gallery, q, rule) {
  const { candidates, matches } = matchHead(gallery, q, rule);
  const byPart = findQueryParts(matches);
  return {
    matches,
    candidates,
    before: candidates.map((index, k) => ({ index, score: matches[k].wholeCosine })),
    after: rerank(candidates, matches),
    byPart,
    hasParts: byPart.contributions[0].length > 1,
  };
}

/**
 * The lists of a query without some of its parts: nothing is matched again.
 *
 * @param {QueryLists} found
 * @param {number[]} dropped
 * @returns {QueryLists}
 */
export function dropQueryParts(found, dropped) {
  if (dropped.length === 0) return found;
  const { byPart, candidates, matches } = found;
  const isDropped = (/** @type {number} */ k) => dropped.includes(k);
  const keep = (/** @type {number[]} */ label) => label.map((k) => (isDropped(k) ? -1 : k));
  const lost = byPart.contributions.map((adds) => sum(adds.filter((_, k) => isDropped(k))));
  const label = keep(byPart.label);
  return {
    ...found,
    matches: matches.map((match) => withoutRows(match, (n) => label[n] !== byPart.label[n])),
    after: rerank(candidates, matches, lost),
    byPart: {
      ...byPart,
      label,
      candidateLabel: byPart.candidateLabel.map(keep),
      contributions: byPart.contributions.map((adds) => adds.map((x, k) => (isDropped(k) ? 0 : x))),
    },
  };
}

/**
 * @param {PairMatch} match
 * @param {(n: number) => boolean} isGone
 * @returns {PairMatch}
 */
function withoutRows(match, isGone) {
  const width = match.massB.length;
  const plan = match.plan.map((mass, i) => (isGone(Math.floor(i / width)) ? 0 : mass));
  return { ...match, plan };
}

/**
 * By how many places each candidate of a list rises in another order of it.
 *
 * @param {number[]} before
 * @param {number[]} after
 * @returns {Map<number, number>}
 */
export function placesWon(before, after) {
  return new Map(after.map((index, k) => [index, before.indexOf(index) - k]));
}

/* average precision */
/**
 * Average precision at R of a query whose list begins with this head; NaN without another image of
 * its class.
 *
 * @param {Gallery} gallery
 * @param {number} q
 * @param {ScoredList} head
 */
export function averagePrecision({ images, order }, q, head) {
  const { kind } = images[q];
  const wanted = images.filter((image) => image.kind === kind).length - 1;
  const list = [...head.map(({ index }) => index), ...order[q].slice(head.length)];
  let [right, total] = [0, 0];
  for (const k of range(Math.min(wanted, list.length))) {
    if (images[list[k]].kind !== kind) continue;
    right += 1;
    total += right / (k + 1);
  }
  return total / wanted;
}

/**
 * The change of the average precision of a query by re-ranking.
 *
 * @param {Gallery} gallery
 * @param {number} q
 * @param {GalleryRule} rule
 */
export function gainOf(gallery, q, rule) {
  const { candidates, matches } = matchHead(gallery, q, rule);
  const before = candidates.map((index) => ({ index, score: 0 }));
  const after = rerank(candidates, matches);
  return averagePrecision(gallery, q, after) - averagePrecision(gallery, q, before);
}

/** @type {Record<string, (gain: number) => boolean>} NaN is none of them */
export const GAIN_RELATIONS = {
  helped: (gain) => gain > 0,
  hurt: (gain) => gain < 0,
  unchanged: (gain) => gain === 0,
};

/**
 * Positions of the queries that re-ranking helped, hurt or left unchanged; or all.
 *
 * @param {number[]} gains
 * @param {string} show
 */
export function queriesByGain(gains, show) {
  const all = range(gains.length);
  return show === "all" ? all : all.filter((q) => GAIN_RELATIONS[show](gains[q]));
}
