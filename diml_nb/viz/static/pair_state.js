/** What a reader did to a view, as plain values: a change gives a new object. */

import { isOutside } from "./pair_data.js";

/**
 * @import {Cell, Flow, Pair, Picture, Side} from "./pair_data.js"
 *
 * @typedef {"mass" | "cosine" | "contribution"} SortKey
 *
 * @typedef {"parts" | "flows"} Mode
 *
 * @typedef {object} ViewState The trait `value` of the Python widget.
 * @property {Mode} mode What the pair is shown by.
 * @property {number | null} part The part that stays highlighted.
 * @property {number[]} left_out Parts that the sum leaves out, ascending; the plan stays the same.
 * @property {Cell | null} locked The cell whose flows stay highlighted.
 * @property {number[]} dropped_a Cells left out of the matching, ascending.
 * @property {number[]} dropped_b
 * @property {boolean} overlay Cells are veiled where they have little mass.
 * @property {SortKey} sort Column of the table.
 *
 * @typedef {object} PairUi One view on a page.
 * @property {HTMLElement} root
 * @property {Record<string, HTMLElement | SVGElement>} nodes The named elements of the page.
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
 * @property {number | null} hoveredPart The row of the list under the pointer.
 * @property {number | null} focusedPart The row of the list with the focus of the keyboard.
 * @property {number} version Counts drawings, for tests.
 * @property {(patch: Partial<ViewState>) => void} change Change the view, draw it, tell the owner.
 */

/* view state */
/** @type {ViewState} */
export const DEFAULT_VIEW = {
  mode: "parts",
  part: null,
  left_out: [],
  locked: null,
  dropped_a: [],
  dropped_b: [],
  overlay: false,
  sort: "contribution",
};

/**
 * The same way of showing, with nothing locked, left out or dropped.
 *
 * @param {ViewState} view
 * @returns {ViewState}
 */
export function freshView(view) {
  return { ...view, part: null, left_out: [], locked: null, dropped_a: [], dropped_b: [] };
}

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
  const next = toggled(droppedCells(view, side), n);
  return side === "a" ? { dropped_a: next } : { dropped_b: next };
}

/**
 * Put a number into an ascending list, or take it out.
 *
 * @param {number[]} numbers
 * @param {number} n
 */
function toggled(numbers, n) {
  return numbers.includes(n) ? numbers.filter((k) => k !== n) : ascending([...numbers, n]);
}

/** @param {number[]} numbers */
function ascending(numbers) {
  return [...new Set(numbers)].sort((i, j) => i - j);
}

/* parts */
/**
 * The part that is highlighted: of the row under the pointer, else the locked one, else that of
 * the cell under the pointer, else that of the row or of the cell with the focus.
 *
 * @param {PairUi} ui
 */
export function chosenPart({ pair, view, hoveredPart, hovered, focusedPart, focused }) {
  return hoveredPart ?? view.part ?? partOf(pair, hovered) ?? focusedPart ?? partOf(pair, focused);
}

/**
 * The part of a cell, `null` for a cell of none.
 *
 * @param {Pair} pair
 * @param {Cell | null} cell
 */
export function partOf(pair, cell) {
  if (!cell) return null;
  const [side, n] = cell;
  const k = pair.parts.label[side][n];
  return k < 0 ? null : k;
}

/**
 * Lock a part, or unlock it.
 *
 * @param {ViewState} view
 * @param {number} k
 * @returns {Partial<ViewState>}
 */
export function togglePart(view, k) {
  return { part: view.part === k ? null : k };
}

/**
 * Leave a part out of the sum, or put it back. In a live view its cells are dropped, so that the
 * pair is matched again without them. Nothing would be left of a pair without its only part.
 *
 * @param {ViewState} view
 * @param {Pair} pair
 * @param {number} k
 * @returns {Partial<ViewState>}
 */
export function dropPart(view, pair, k) {
  if (pair.parts.list.length < 2) return {};
  if (!pair.live) return { left_out: toggled(view.left_out, k) };
  const cells = (/** @type {Side} */ side) =>
    ascending([...droppedCells(view, side), ...partCells(pair, side, k)]);
  return { part: null, dropped_a: cells("a"), dropped_b: cells("b") };
}

/**
 * @param {Pair} pair
 * @param {Side} side
 * @param {number} k
 */
export function partCells(pair, side, k) {
  return pair.parts.label[side].flatMap((part, n) => (part === k ? [n] : []));
}

/**
 * The view without what a new pair does not have.
 *
 * @param {ViewState} view
 * @param {Pair} pair
 * @returns {ViewState}
 */
export function fitView(view, pair) {
  const count = pair.parts.list.length;
  const { locked, part, left_out } = view;
  return {
    ...view,
    locked: locked && isOutside(pair, locked) ? null : locked,
    part: part !== null && part >= count ? null : part,
    left_out: left_out.filter((k) => k < count),
  };
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
