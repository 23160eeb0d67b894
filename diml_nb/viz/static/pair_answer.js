/** All that a page shows of a pair, computed in the page: the numbers of `PairPayload`. */

import { formatPercent, range, sum } from "./dom.js";
import { createCutter } from "./solver_cells.js";
import {
  contributionsOf,
  matchTable,
  matchWeighed,
  tableOf,
  transportProblem,
  weighTable,
} from "./solver_match.js";
import { findParts, partFace } from "./solver_parts.js";
import { traceIterations } from "./solver_sinkhorn.js";

/**
 * @import {PairParts, PairPayload, Part, Side} from "./pair_data.js"
 * @import {MapPayload} from "./solver_cells.js"
 * @import {MatchRequest, PairMatch, PairTable, PlanName} from "./solver_match.js"
 * @import {FoundParts} from "./solver_parts.js"
 *
 * @typedef {object} PairRequest The state of a `PairExplorer` of the Python library.
 * @property {number} grid Cells a side.
 * @property {string} marginals
 * @property {PlanName} plan
 * @property {number} eps
 * @property {number} max_iter
 * @property {number} [tol] Where the solver stops.
 * @property {number} top How many flows are shown.
 * @property {{dropped_a: number[], dropped_b: number[]}} view
 *
 * @typedef {{data?: PairPayload, obstacle?: string}} PairAnswer The numbers, or why there are none.
 *
 * @typedef {object} Candidates Among which B stands.
 * @property {PairTable[]} tables Of A and each candidate.
 * @property {number} position Of B among them.
 */

/* pair answer */
/** @type {Record<PlanName, string>} in the order in which their scores are shown */
export const PLAN_NAMES = {
  transport: "optimal transport",
  exact: "cheapest (no entropy)",
  best_cell: "best cell",
  aligned: "cells in place",
  product: "no matching",
};

/**
 * What answers requests about a pair.
 *
 * @param {Record<Side, MapPayload>} maps
 * @returns {(request: PairRequest) => PairAnswer}
 */
export function createPairSolver(maps) {
  const cellsOf = createCutter(maps);
  return (request) => {
    const { a, b } = cellsOf(request.grid);
    return answerPair(tableOf(a, b), request);
  };
}

/**
 * @param {PairTable} table
 * @param {PairRequest} request
 * @param {Candidates} [gallery]
 * @returns {PairAnswer}
 */
export function answerPair(table, request, gallery) {
  const obstacle = findObstacle(table, request);
  if (obstacle) return { obstacle };
  const names = /** @type {PlanName[]} */ (Object.keys(PLAN_NAMES)).filter(
    (plan) => plan !== "aligned" || hasPlaces(table),
  );
  const weighed = weighTable(table, matchRequest(request));
  const matches = new Map(
    names.map((plan) => [plan, matchWeighed(weighed, { ...matchRequest(request), plan })]),
  );
  const match = /** @type {PairMatch} */ (matches.get(request.plan));
  const beside = [{ name: "cosine of the images", value: match.wholeCosine }];
  for (const [plan, { similarity }] of matches) {
    beside.push({ name: PLAN_NAMES[plan], value: similarity });
  }
  const notes = describeChanges(table, request, match, gallery);
  return { data: pairNumbers(match, request, beside, notes) };
}

/**
 * @param {PairRequest} request
 * @returns {MatchRequest}
 */
function matchRequest({ view, ...rule }) {
  return { ...rule, dropped_a: view.dropped_a, dropped_b: view.dropped_b };
}

/**
 * @param {PairMatch} match
 * @param {PairRequest} request
 * @param {PairPayload["beside"]} beside
 * @param {string[]} notes
 * @returns {PairPayload}
 */
function pairNumbers(match, { plan, eps, top, max_iter }, beside, notes) {
  const steps = plan === "transport" ? Math.min(20, max_iter) : 0;
  return {
    grid_a: match.gridA,
    grid_b: match.gridB,
    plan: match.plan,
    local: match.cosine,
    mass_a: match.massA,
    mass_b: match.massB,
    similarity: match.similarity,
    cosine: match.wholeCosine,
    top,
    text: captionOf(match, top),
    beside,
    notes,
    error_k: steps > 0 ? traceIterations(transportProblem(match, eps), steps).errors : [],
    live: true,
    parts: partsPayload(match, findParts(match)),
  };
}

/* obstacles */
/** @param {PairTable} table */
function hasPlaces({ grid }) {
  return String(grid.a) === String(grid.b);
}

/**
 * Why a pair cannot be matched; empty if it can.
 *
 * @param {PairTable} table
 * @param {PairRequest} request
 */
function findObstacle(table, { plan, view }) {
  const same = "The numbers are still those of before; ";
  const back = `${same}x on a cell takes it back.`;
  const { a, b } = table.length;
  const isFull = view.dropped_a.length >= a.length || view.dropped_b.length >= b.length;
  if (isFull) return `No cell of one image is left. ${back}`;
  if (plan !== "aligned") return "";
  const gone = new Set([...view.dropped_a, ...view.dropped_b]);
  if (range(a.length).every((n) => gone.has(n))) {
    return `Cells in place: no cell is left in both images. ${back}`;
  }
  if (hasPlaces(table)) return "";
  return (
    "Cells in place need pictures of one shape, cut into the same rows and columns. " +
    `${same}choose another plan.`
  );
}

/* sentences of an answer */
/**
 * Another plan than transport, dropped cells, and the place of B in its gallery.
 *
 * @param {PairTable} table
 * @param {PairRequest} request
 * @param {PairMatch} match
 * @param {Candidates} [gallery]
 */
function describeChanges(table, request, match, gallery) {
  const lines = [];
  const { plan, view } = request;
  if (plan !== "transport") lines.push(`the mass is moved by: ${PLAN_NAMES[plan]}`);
  const count = view.dropped_a.length + view.dropped_b.length;
  const whole = { ...matchRequest(request), dropped_a: [], dropped_b: [] };
  const before = gallery ? placeOfB(gallery, whole) : 0;
  if (count > 0) {
    const similarity = matchTable(table, whole).similarity.toFixed(4);
    const names = count === 1 ? "1 cell" : `${count} cells`;
    const now = `${names} dropped: S ${similarity} before, ${match.similarity.toFixed(4)} now`;
    lines.push(gallery ? now + placesText(gallery, before, matchRequest(request)) : now);
  } else if (gallery) {
    lines.push(`B is at place ${before} of ${gallery.tables.length}`);
  }
  if (match.error > 1e-2) lines.push("an unfinished plan may exceed the cheapest");
  return lines;
}

/**
 * The place of B in the list of the candidates by score, counted from 1.
 *
 * @param {Candidates} gallery
 * @param {MatchRequest} request
 */
function placeOfB({ tables, position }, request) {
  const scores = tables.map((table) => table.wholeCosine + matchTable(table, request).similarity);
  return 1 + scores.filter((score) => score > scores[position]).length;
}

/**
 * @param {Candidates} gallery
 * @param {number} before
 * @param {MatchRequest} request
 */
function placesText(gallery, before, request) {
  const now = placeOfB(gallery, request);
  return `; place of B ${before} before, ${now} now, of ${gallery.tables.length}`;
}

/**
 * What a reader must know before believing a plan.
 *
 * @param {PairMatch} match
 */
function warningsOf({ usedUniform, error }) {
  const lines = [];
  if (usedUniform) lines.push("an image had no mass: its cells got equal masses");
  if (error > 1e-2) {
    const share = formatPercent(error, 1);
    lines.push(`the plan has not converged: L1 error of its columns ${share} of the mass`);
  }
  return lines;
}

/**
 * @param {PairMatch} match
 * @param {number} top
 */
function captionOf(match, top) {
  const { similarity, wholeCosine } = match;
  const values = contributionsOf(match);
  const shown = Math.min(top, values.length);
  const carried = sum(
    values
      .slice()
      .sort()
      .subarray(values.length - shown),
  );
  const share =
    similarity > 0
      ? ` of S = ${similarity.toFixed(3)} (${formatPercent(carried / similarity)})`
      : "";
  const total = `sum of contributions ${sum(values).toFixed(4)} = similarity ${similarity.toFixed(4)}`;
  return [
    `${shown} of ${values.length.toLocaleString("en")} flows carry ${carried.toFixed(3)}${share}`,
    `${total}, global cosine ${wholeCosine.toFixed(4)}`,
    ...warningsOf(match),
  ].join("\n");
}

/* parts of an answer */
export const PART_COLORS = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7"];

/**
 * @param {PairMatch} match
 * @param {FoundParts} found
 * @returns {PairParts}
 */
function partsPayload(match, found) {
  const { label, strengths, rest } = found;
  const note = [found.note, ...warningsOf(match)].filter(Boolean).join("; ");
  const summary = partsSummary(found);
  const terms = found.contributions.map((value) => value.toFixed(3)).join(" + ");
  const total = sum(found.contributions) + rest;
  const line =
    `parts ${terms} + rest ${withoutMinusZero(rest, 3)} = ` +
    `${total.toFixed(4)} = similarity ${found.similarity.toFixed(4)}`;
  return {
    list: found.contributions.map((_, k) => partNumbersOf(match, found, k)),
    label,
    opacity: { a: opacityOf(strengths.a), b: opacityOf(strengths.b) },
    rest,
    text: [line, summary, note].filter(Boolean).join("\n"),
    summary,
    note,
  };
}

/**
 * @param {PairMatch} match
 * @param {FoundParts} found
 * @param {number} k
 * @returns {Part}
 */
function partNumbersOf({ gridA, gridB }, { label, strengths, ...found }, k) {
  const [contribution, mass] = [found.contributions[k], found.masses[k]];
  return {
    contribution,
    mass,
    cosine: mass > 0 ? contribution / mass : 0,
    cell_mass: { a: found.cellMasses.a[k], b: found.cellMasses.b[k] },
    face: {
      a: partFace(label.a, strengths.a, gridA, k),
      b: partFace(label.b, strengths.b, gridB, k),
    },
    color: PART_COLORS[k % PART_COLORS.length],
  };
}

/** @param {FoundParts} found */
function partsSummary({ contributions, similarity, chance }) {
  if (similarity <= 1e-9) return "";
  const count = contributions.length;
  const share = formatPercent(sum(contributions) / similarity);
  const named = count === 1 ? "1 part" : `${count} parts`;
  return `${share} of S within ${named}, chance ${formatPercent(chance)}`;
}

/**
 * How strongly each cell is coloured: the square root of what it adds, at most 0.8.
 *
 * @param {number[]} strengths
 */
export function opacityOf(strengths) {
  const most = Math.max(...strengths, 1e-12);
  return strengths.map((value) => 0.8 * Math.sqrt(Math.max(0, value / most)));
}

/**
 * @param {number} value
 * @param {number} digits
 */
function withoutMinusZero(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text;
}
