/** What a reader did to a view, as plain values: a change gives a new object. */

/**
 * @import {Cell, Flow, Pair, Picture, Side} from "./pair_data.js"
 *
 * @typedef {"mass" | "cosine" | "contribution"} SortKey
 *
 * @typedef {object} ViewState The trait `value` of the Python widget.
 * @property {Cell | null} locked The cell whose flows stay highlighted.
 * @property {number[]} dropped_a Cells left out of the matching, ascending.
 * @property {number[]} dropped_b
 * @property {boolean} overlay Cells are veiled where they have little mass.
 * @property {SortKey} sort Column of the table.
 *
 * @typedef {object} PairUi One view on a page.
 * @property {HTMLElement} root
 * @property {Record<string, HTMLElement | SVGElement>} parts The named elements of the page.
 * @property {Record<Side, (HTMLElement | SVGElement)[]>} cells
 * @property {Record<SortKey, HTMLElement | SVGElement>} headers Of the table's columns of numbers.
 * @property {Pair} pair
 * @property {Record<Side, Picture>} pictures
 * @property {ViewState} view
 * @property {Record<Side, number>} tabStops The cell of each grid that the Tab key reaches.
 * @property {Cell | null} hovered
 * @property {Cell | null} focused
 * @property {Flow | null} pointedFlow The row of the table under the pointer.
 * @property {Flow[]} rows The flows of the table.
 * @property {number} version Counts drawings, for tests.
 * @property {(patch: Partial<ViewState>) => void} change Change the view, draw it, tell the owner.
 */

/* view state */
/** @type {ViewState} */
export const DEFAULT_VIEW = {
  locked: null,
  dropped_a: [],
  dropped_b: [],
  overlay: false,
  sort: "contribution",
};

/**
 * The dropped cells of a side.
 *
 * @param {ViewState} view
 * @param {Side} side
 */
export function droppedCells(view, side) {
  return side === "a" ? view.dropped_a : view.dropped_b;
}

/**
 * Drop a cell, or take it back.
 *
 * @param {ViewState} view
 * @param {Cell} cell
 * @returns {Partial<ViewState>}
 */
export function toggleDropped(view, [side, n]) {
  const dropped = droppedCells(view, side);
  const others = dropped.filter((k) => k !== n);
  const next = dropped.includes(n) ? others : [...dropped, n].sort((i, j) => i - j);
  return side === "a" ? { dropped_a: next } : { dropped_b: next };
}

/* moves */
/** @type {Record<string, [number, number]>} rows down, columns right */
const MOVES = {
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  Home: [0, -Infinity],
  End: [0, Infinity],
};

/**
 * The cell that a key leads to; at the border it stays. `null` for a key that does not move.
 *
 * @param {Pair} pair
 * @param {Cell} cell
 * @param {string} key
 * @returns {Cell | null}
 */
export function moveCell(pair, [side, n], key) {
  if (!Object.hasOwn(MOVES, key)) return null;
  const [rows, columns] = pair.grid[side];
  const [down, right] = MOVES[key];
  const row = clamp(Math.floor(n / columns) + down, rows - 1);
  const column = clamp((n % columns) + right, columns - 1);
  return [side, row * columns + column];
}

/**
 * @param {number} x
 * @param {number} high
 */
function clamp(x, high) {
  return Math.min(high, Math.max(0, x));
}
