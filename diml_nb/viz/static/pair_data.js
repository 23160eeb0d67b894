/** The numbers of one pair: the payload, the flows between cells, and sentences about them. */

import { decodeFloat32, formatPercent, formatScore, maximum, range } from "./dom.js";

/** @type {Side[]} */
export const SIDES = ["a", "b"];

/* payload */
/**
 * @typedef {"a" | "b"} Side
 * @typedef {[Side, number]} Cell A side and the number of a cell, counted row by row from 0.
 * @typedef {[number, number]} Grid Rows and columns.
 * @typedef {{x: number, y: number, width: number, height: number}} Box
 * @typedef {{width: number, height: number}} Size
 * @typedef {Size & {src: string, label: string}} Picture In pixels.
 *
 * @typedef {string | ArrayLike<number>} Numbers Base64 of float32, or the numbers themselves.
 *
 * @typedef {object} PairPayload What `pair_payload` of the Python library sends, or the page's solver.
 * @property {Grid} grid_a Of the cells of A.
 * @property {Grid} grid_b
 * @property {Numbers} plan (N, M) transport plan.
 * @property {Numbers} local (N, M) cosine of each two cells.
 * @property {Numbers} mass_a (N,) marginal of A.
 * @property {Numbers} mass_b (M,)
 * @property {number} similarity S, the sum of all contributions.
 * @property {number} cosine Of the whole images.
 * @property {number} top How many flows are shown.
 * @property {string} text The strongest flows in words.
 * @property {{name: string, value: number}[]} beside Other scores of this pair.
 * @property {string[]} notes
 * @property {number[]} error_k L1 error of the column marginal after each iteration.
 * @property {boolean} live The pair is matched again when a cell is dropped.
 * @property {PairParts} parts
 *
 * @typedef {object} PairParts What `parts` of the Python library found.
 * @property {Part[]} list The largest contribution first.
 * @property {Record<Side, number[]>} label The part of each cell, from 0; -1 for a cell of none.
 * @property {Record<Side, Numbers>} opacity Of the colour of each cell.
 * @property {number} rest What the flows between parts add to S.
 * @property {string} text The sum in words, for a page without scripts.
 * @property {string} summary How much of S lies within the parts, in words.
 * @property {string} note What a reader must know, such as that there is no structure.
 *
 * @typedef {[number, number, number, number]} Face Where a part is strongest in a picture: left,
 * top, right and bottom, in shares of the picture's sides.
 *
 * @typedef {object} Part A group of cells of A and of B between which much flows.
 * @property {number} contribution What the flows within it add to S.
 * @property {number} mass That moves within it.
 * @property {number} cosine The mean of its flows, weighted by mass: contribution / mass.
 * @property {Record<Side, number>} cell_mass Of all its cells of a side.
 * @property {Record<Side, Face>} face
 * @property {string} color
 *
 * @typedef {object} Flow What one cell of A sends to one cell of B.
 * @property {number} n Cell of A.
 * @property {number} m Cell of B.
 * @property {number} mass
 * @property {number} cosine
 * @property {number} contribution mass * cosine
 *
 * @typedef {object} PairNumbers
 * @property {Record<Side, Grid>} grid
 * @property {Record<Side, Box>} boxes Where the pictures are drawn.
 * @property {number} columns M
 * @property {Float32Array} plan
 * @property {Float32Array} local
 * @property {Record<Side, Float32Array>} mass
 * @property {Float32Array} contributions
 * @property {number} maxFlow
 * @property {Record<Side, number>} maxMass
 * @property {Record<Side, number[]>} tint How strongly each cell has the colour of its part, 0 to 1.
 * @property {Flow[]} flows The strongest of the pair.
 *
 * @typedef {Omit<PairPayload, "plan" | "local"> & PairNumbers} Pair
 */

/**
 * Decode a payload. Contributions are float32 products, as the Python library computes them.
 *
 * @param {PairPayload} payload
 * @returns {Pair}
 */
export function readPair(payload) {
  const plan = decodeFloat32(payload.plan);
  const local = decodeFloat32(payload.local);
  const mass = { a: decodeFloat32(payload.mass_a), b: decodeFloat32(payload.mass_b) };
  /** @type {Pair} */
  const pair = {
    ...payload,
    plan,
    local,
    mass,
    grid: { a: payload.grid_a, b: payload.grid_b },
    boxes: pictureBoxes({ a: SQUARE, b: SQUARE }),
    columns: mass.b.length,
    contributions: plan.map((moved, i) => moved * local[i]),
    maxFlow: maximum(plan),
    maxMass: { a: maximum(mass.a), b: maximum(mass.b) },
    tint: {
      a: Array.from(decodeFloat32(payload.parts.opacity.a)),
      b: Array.from(decodeFloat32(payload.parts.opacity.b)),
    },
    flows: [],
  };
  pair.flows = strongestFlows(pair, range(plan.length));
  return pair;
}

/* boxes */
export const PICTURE_SIZE = 230;
export const PICTURE_LEFT = { a: 0, b: 334 };
/** @type {Size} until the pictures are there */
const SQUARE = { width: 1, height: 1 };

/**
 * Where the two pictures are drawn: each as large as fits a square, in its middle.
 *
 * @param {Record<Side, Size>} pictures
 * @returns {Record<Side, Box>}
 */
export function pictureBoxes(pictures) {
  return { a: fitBox(pictures.a, PICTURE_LEFT.a), b: fitBox(pictures.b, PICTURE_LEFT.b) };
}

/**
 * @param {Size} size
 * @param {number} left of the square
 * @returns {Box}
 */
function fitBox(size, left) {
  const longest = Math.max(size.width, size.height);
  const width = (PICTURE_SIZE * size.width) / longest;
  const height = (PICTURE_SIZE * size.height) / longest;
  return { x: left + (PICTURE_SIZE - width) / 2, y: (PICTURE_SIZE - height) / 2, width, height };
}

/* flows */
const MIN_FLOW = 1e-20;

/**
 * The flow at a position of the plan, which is stored row by row.
 *
 * @param {Pair} pair
 * @param {number} i
 * @returns {Flow}
 */
export function flowAt(pair, i) {
  return {
    n: Math.floor(i / pair.columns),
    m: i % pair.columns,
    mass: pair.plan[i],
    cosine: pair.local[i],
    contribution: pair.contributions[i],
  };
}

/**
 * The flows at some positions of the plan with the largest contributions, at most `pair.top`.
 *
 * @param {Pair} pair
 * @param {number[]} positions
 * @returns {Flow[]}
 */
export function strongestFlows(pair, positions) {
  return positions
    .filter((i) => pair.plan[i] > MIN_FLOW)
    .sort((i, j) => pair.contributions[j] - pair.contributions[i])
    .slice(0, pair.top)
    .map((i) => flowAt(pair, i));
}

/**
 * The strongest flows of a cell: those of its row of the plan, or of its column for a cell of B.
 *
 * @param {Pair} pair
 * @param {Cell} cell
 */
export function cellFlows(pair, [side, n]) {
  const positions =
    side === "a"
      ? range(pair.columns).map((m) => n * pair.columns + m)
      : range(pair.mass.a.length).map((k) => k * pair.columns + n);
  return strongestFlows(pair, positions);
}

/**
 * @param {Pair} pair
 * @param {Cell} cell
 */
export function isOutside(pair, [side, n]) {
  return n >= pair.mass[side].length;
}

/**
 * @param {Pair} x
 * @param {Pair} y
 */
export function sameGrids(x, y) {
  return String([x.grid.a, x.grid.b]) === String([y.grid.a, y.grid.b]);
}

/**
 * @param {Cell | null} x
 * @param {Cell | null} y
 */
export function sameCell(x, y) {
  return x === y || (x !== null && y !== null && x[0] === y[0] && x[1] === y[1]);
}

/* sentences */
/**
 * Row and column, counted from 1.
 *
 * @param {Pair} pair
 * @param {Cell} cell
 */
export function cellPosition(pair, [side, n]) {
  const [, columns] = pair.grid[side];
  return `${Math.floor(n / columns) + 1},${(n % columns) + 1}`;
}

/**
 * @param {Pair} pair
 * @param {Cell} cell
 */
export function cellName(pair, cell) {
  return `${cell[0].toUpperCase()} ${cellPosition(pair, cell)}`;
}

/**
 * @param {Pair} pair
 * @param {Flow} flow
 */
export function flowName(pair, flow) {
  return `${cellName(pair, ["a", flow.n])} \u2192 ${cellName(pair, ["b", flow.m])}`;
}

/**
 * What a flow or a part adds to the similarity; its share only where the similarity is positive.
 *
 * @param {Pair} pair
 * @param {{contribution: number}} flow
 */
export function shareText(pair, { contribution }) {
  const { similarity } = pair;
  const share = similarity > 0 ? ` (${formatPercent(contribution / similarity, 1)})` : "";
  return `; adds ${formatScore(contribution)} to S = ${formatScore(similarity)}${share}`;
}

/**
 * The mass of a cell, and where the most valuable part of it goes to or comes from.
 *
 * @param {Pair} pair
 * @param {Cell} cell
 * @param {Flow | undefined} flow the strongest of the cell, if it has one
 */
export function targetText(pair, [side, n], flow) {
  const mass = pair.mass[side][n];
  const start = `mass ${formatScore(mass)}, `;
  if (!flow) return `${start}moves nothing`;
  const target =
    side === "a"
      ? `goes to ${cellName(pair, ["b", flow.m])}`
      : `comes from ${cellName(pair, ["a", flow.n])}`;
  return `${start}${formatPercent(flow.mass / mass)} of it ${target}`;
}

/**
 * What a screen reader says when a cell gets the focus.
 *
 * @param {Pair} pair
 * @param {Cell} cell
 */
export function cellLabel(pair, cell) {
  return `${cellName(pair, cell)}: ${targetText(pair, cell, cellFlows(pair, cell).at(0))}`;
}

/**
 * @param {Pair} pair
 * @param {Cell} cell
 */
export function cellSentence(pair, cell) {
  const flow = cellFlows(pair, cell).at(0);
  const share = flow ? shareText(pair, flow) : "";
  return `cell ${cellName(pair, cell)} (row, column): ${targetText(pair, cell, flow)}${share}`;
}

/**
 * @param {Pair} pair
 * @param {Flow} flow
 */
export function flowSentence(pair, flow) {
  const numbers = `mass ${formatScore(flow.mass)}, cosine ${formatScore(flow.cosine)}`;
  return `${flowName(pair, flow)}: ${numbers}${shareText(pair, flow)}`;
}
