/** The parts of a pair: their flows, their sum, and sentences about them. */

import { formatScore, range, sum } from "./dom.js";
import { cellName, SIDES, shareText, strongestFlows } from "./pair_data.js";
import { partCells, partOf } from "./pair_state.js";

/** @import {Cell, Flow, Pair} from "./pair_data.js" */

/* part sums */
/**
 * The strongest flows within a part.
 *
 * @param {Pair} pair
 * @param {number} k
 * @returns {Flow[]}
 */
export function partFlows(pair, k) {
  const columns = partCells(pair, "b", k);
  const positions = partCells(pair, "a", k).flatMap((n) =>
    columns.map((m) => n * pair.columns + m),
  );
  return strongestFlows(pair, positions);
}

/**
 * What the flows add that run between parts, or from or to a cell of no part. It is added up and
 * not taken from the similarity, so that the residual of the sum is a real check.
 *
 * @param {Pair} pair
 */
export function sumBetweenParts(pair) {
  const { a, b } = pair.parts.label;
  const isWithin = (/** @type {number} */ n, /** @type {number} */ m) => a[n] >= 0 && a[n] === b[m];
  return sum(
    range(a.length).map((n) =>
      sum(b.map((_, m) => (isWithin(n, m) ? 0 : pair.contributions[n * pair.columns + m]))),
    ),
  );
}

/**
 * The similarity as the sum of its parts and the rest, in one line.
 *
 * @param {Pair} pair
 */
export function partSumText(pair) {
  const terms = pair.parts.list.map((part) => part.contribution);
  const total = sum(terms) + sumBetweenParts(pair);
  const residual = Math.abs(total - pair.similarity).toExponential(0);
  const written = [...terms.map(formatScore), `rest ${formatScore(pair.parts.rest)}`].join(" + ");
  return `${written} = ${formatScore(total)} = S, residual ${residual}`;
}

/**
 * What is left of the similarity without some parts; nothing where none is left out.
 *
 * @param {Pair} pair
 * @param {number[]} leftOut
 */
export function leftOutText(pair, leftOut) {
  if (leftOut.length === 0) return "";
  const left = pair.similarity - sum(leftOut.map((k) => pair.parts.list[k].contribution));
  const names = leftOut.map(partName);
  const last = names.pop();
  const parts =
    names.length > 0 ? `parts ${names.join(", ")} and ${last} add` : `part ${last} adds`;
  return `S without what ${parts}: ${formatScore(left)}`;
}

/* part sentences */
/**
 * Parts are numbered from 1: letters are the names of the pictures.
 *
 * @param {number} k
 */
export function partName(k) {
  return String(k + 1);
}

/**
 * The numbers of a part, as its row shows them.
 *
 * @param {Pair} pair
 * @param {number} k
 */
export function partNumbers(pair, k) {
  const { contribution, cosine, mass } = pair.parts.list[k];
  return {
    adds: formatScore(contribution),
    product: `cosine ${cosine.toFixed(2)} \u00d7 mass ${mass.toFixed(2)}`,
  };
}

/**
 * @param {Pair} pair
 * @param {number} k
 */
export function partSentence(pair, k) {
  const part = pair.parts.list[k];
  const [ofA, ofB] = SIDES.map((side) => {
    const count = partCells(pair, side, k).length;
    return `${count} ${count === 1 ? "cell" : "cells"} of ${side.toUpperCase()} (mass ${formatScore(part.cell_mass[side])})`;
  });
  const moved = `mass ${formatScore(part.mass)} moves within it, mean cosine ${formatScore(part.cosine)}`;
  return `part ${partName(k)}: ${ofA} and ${ofB}; ${moved}${shareText(pair, part)}`;
}

/**
 * What a screen reader says when a cell gets the focus, in a view by parts.
 *
 * @param {Pair} pair
 * @param {Cell} cell
 */
export function cellPartLabel(pair, cell) {
  const k = partOf(pair, cell);
  return `${cellName(pair, cell)}: ${k === null ? "no part" : `part ${partName(k)}`}`;
}
