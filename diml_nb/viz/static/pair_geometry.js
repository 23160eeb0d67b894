/** Places in the drawing of a pair: cells, ribbons, crosses, parts, and windows for crops. */

import { PICTURE_LEFT, PICTURE_SIZE } from "./pair_data.js";

/** @import {Box, Cell, Face, Flow, Pair, Side} from "./pair_data.js" */

/* geometry */
/**
 * The place of a cell in the coordinates of the drawing.
 *
 * @param {Pair} pair
 * @param {Cell} cell
 * @returns {Box}
 */
export function cellBox(pair, [side, n]) {
  const box = pair.boxes[side];
  const [rows, columns] = pair.grid[side];
  const width = box.width / columns;
  const height = box.height / rows;
  const x = box.x + width * (n % columns);
  const y = box.y + height * Math.floor(n / columns);
  return { x, y, width, height };
}

/**
 * The path of a flow's ribbon. Flows that end in different columns are bowed differently, so that
 * they do not lie on each other.
 *
 * @param {Pair} pair
 * @param {Flow} flow
 */
export function ribbonPath(pair, flow) {
  const [x, y] = boxCenter(cellBox(pair, ["a", flow.n]));
  const [endX, endY] = boxCenter(cellBox(pair, ["b", flow.m]));
  const reach = 0.35 * (endX - x);
  const bow = 0.3 * (x + endX - PICTURE_LEFT.b - PICTURE_SIZE);
  const controls = `${x + reach} ${y + bow} ${endX - reach} ${endY + bow}`;
  return `M${x} ${y}C${controls} ${endX} ${endY}`;
}

/** @param {Box} box */
function boxCenter({ x, y, width, height }) {
  return [x + width / 2, y + height / 2];
}

/**
 * A rectangle with both diagonals.
 *
 * @param {Box} box
 */
export function crossPath({ x, y, width: w, height: h }) {
  return `M${x} ${y}h${w}v${h}h${-w}zl${w} ${h}m${-w} 0l${w} ${-h}`;
}

/**
 * The window of a crop: a square with the cell in its middle, twice as large.
 *
 * @param {Box} box
 */
export function cropWindow(box) {
  const [x, y] = boxCenter(box);
  const half = Math.max(box.width, box.height);
  return `${x - half} ${y - half} ${2 * half} ${2 * half}`;
}

/* parts */
/**
 * A piece of a picture in the coordinates of the drawing.
 *
 * @param {Box} picture
 * @param {Face} face
 * @returns {Box}
 */
export function faceBox(picture, [left, top, right, bottom]) {
  const x = picture.x + picture.width * left;
  const y = picture.y + picture.height * top;
  return { x, y, width: picture.width * (right - left), height: picture.height * (bottom - top) };
}

/**
 * Where the number of a part stands.
 *
 * @param {Pair} pair
 * @param {Side} side
 * @param {number} k
 */
export function partCenter(pair, side, k) {
  return boxCenter(faceBox(pair.boxes[side], pair.parts.list[k].face[side]));
}

/**
 * The border of a part: the sides of its cells behind which no cell of it lies.
 *
 * @param {Pair} pair
 * @param {Side} side
 * @param {number} k
 */
export function borderPath(pair, side, k) {
  const label = pair.parts.label[side];
  const [rows, columns] = pair.grid[side];
  const isPart = (/** @type {number} */ row, /** @type {number} */ column) =>
    row >= 0 &&
    row < rows &&
    column >= 0 &&
    column < columns &&
    label[row * columns + column] === k;
  return label
    .flatMap((part, n) => {
      if (part !== k) return [];
      const [row, column] = [Math.floor(n / columns), n % columns];
      const { x, y, width, height } = cellBox(pair, [side, n]);
      return [
        isPart(row - 1, column) ? "" : `M${x} ${y}h${width}`,
        isPart(row + 1, column) ? "" : `M${x} ${y + height}h${width}`,
        isPart(row, column - 1) ? "" : `M${x} ${y}v${height}`,
        isPart(row, column + 1) ? "" : `M${x + width} ${y}v${height}`,
      ];
    })
    .join("");
}

/**
 * A picture without the cells of a part: both are outlined, so that the rule "evenodd" leaves the
 * cells open.
 *
 * @param {Pair} pair
 * @param {Side} side
 * @param {number} k
 */
export function veilPath(pair, side, k) {
  const cells = pair.parts.label[side].flatMap((part, n) =>
    part === k ? [boxPath(cellBox(pair, [side, n]))] : [],
  );
  return [boxPath(pair.boxes[side]), ...cells].join("");
}

/** @param {Box} box */
function boxPath({ x, y, width, height }) {
  return `M${x} ${y}h${width}v${height}h${-width}z`;
}
