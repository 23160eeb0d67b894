/** Sentences about the lists of a query, in the words of 46_lists and 46_gallery. */

import { withSign } from "./dom.js";
import { GAIN_RELATIONS, queriesByGain } from "./gallery_lists.js";
import { PLAN_NAMES } from "./pair_answer.js";
import { roundHalfEven } from "./solver_cells.js";

/**
 * @import {GalleryImage} from "./gallery_data.js"
 * @import {GalleryRule} from "./gallery_lists.js"
 */

/* list texts */
/** @type {Record<string, string>} by the rule of the marginals */
const MARGINAL_NAMES = {
  uniform: "equal",
  cross_correlation: "cross correlation (the paper's)",
  cross_correlation_norm: "the same x length",
  cross_correlation_norm2: "the same x length\u00b2",
  cross_correlation2_norm2: "(the same x length)\u00b2",
};

/** @param {GalleryRule} rule */
export function ruleText({ grid, marginals, eps, plan }) {
  const moved = plan === "transport" ? "" : `, ${PLAN_NAMES[plan]}`;
  return `grid ${grid}, ${MARGINAL_NAMES[marginals]}, eps ${Number(eps.toPrecision(3))}${moved}`;
}

/**
 * Three digits, as Python rounds them: halfway, as 1 / 16 is, to the even one.
 *
 * @param {number} value NaN without another image of the class of the query
 */
export function precisionText(value) {
  if (Number.isNaN(value)) return "none";
  const isHalfway = (16 * value) % 2 === 1; // 1000 x + 1/2 is whole for odd sixteenths only
  return (isHalfway ? roundHalfEven(1000 * value) / 1000 : value).toFixed(3);
}

/**
 * Parts in words: "part 2", or "parts 1, 2".
 *
 * @param {number[]} dropped
 */
export function partNames(dropped) {
  const names = dropped.map((k) => k + 1).join(", ");
  return dropped.length === 1 ? `part ${names}` : `parts ${names}`;
}

/**
 * @param {number} before
 * @param {number} after
 */
export function gainWord(before, after) {
  const word = Object.keys(GAIN_RELATIONS).find((name) => GAIN_RELATIONS[name](after - before));
  return word ?? "without another image of its class";
}

/** @param {number[]} gains */
export function gainCounts(gains) {
  const counts = Object.keys(GAIN_RELATIONS).map(
    (word) => `${queriesByGain(gains, word).length} ${word}`,
  );
  const alone = gains.filter(Number.isNaN).length;
  if (alone > 0) counts.push(`${alone} without another image of their class`);
  return counts.join(", ");
}

/**
 * How many candidates rise and fall, and which of them most.
 *
 * @param {GalleryImage[]} images
 * @param {Map<number, number>} moves
 */
export function moveSentence(images, moves) {
  const all = [...moves];
  const rise = all.filter(([, x]) => x > 0).length;
  const fall = all.filter(([, x]) => x < 0).length;
  if (rise === 0) return "No candidate changes its place.";
  const [up, most] = all.reduce((x, y) => (y[1] > x[1] ? y : x));
  const [down, least] = all.reduce((x, y) => (y[1] < x[1] ? y : x));
  return (
    `${rise} of ${all.length} candidates rise, most of all ${images[up].name}` +
    ` (${withSign(most, 0)} places); ${fall} fall, most of all ${images[down].name}` +
    ` (${withSign(least, 0)}).`
  );
}
