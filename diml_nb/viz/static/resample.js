/** Pictures cut and resized as the network sees them: `Backbone.view` and `preprocess`, in pixels. */

import { range } from "./dom.js";
import { roundHalfEven } from "./solver_cells.js";

/**
 * @typedef {object} Pixels A picture in memory, as `ImageData` of a canvas.
 * @property {number} width
 * @property {number} height
 * @property {Uint8ClampedArray | Uint8Array} data RGBA, row by row; the alpha is not read.
 *
 * @typedef {[number, number]} Size Width and height.
 *
 * @typedef {object} Taps The places of a side that one new place is made of.
 * @property {number} first
 * @property {Int32Array} weights In units of 1 / 2^22; they sum to about 1.
 */

/* kernel */
const PRECISION_BITS = 22;
const RADIUS = 2; // of the cubic, in old pixels, or in new ones where these are wider

/**
 * The cubic of Keys with a = -0.5, as Pillow takes it.
 *
 * @param {number} x
 */
export function cubic(x) {
  const t = Math.abs(x);
  if (t < 1) return 1.5 * t ** 3 - 2.5 * t ** 2 + 1;
  return t < 2 ? -0.5 * (((t - 5) * t + 8) * t - 4) : 0;
}

/**
 * What each new place of a side is made of. Where the side shrinks, the cubic is as much wider, so
 * that every old place counts (antialiasing).
 *
 * @param {number} size
 * @param {number} newSize
 * @returns {Taps[]}
 */
export function sideTaps(size, newSize) {
  const scale = size / newSize;
  const stretch = Math.max(1, scale);
  return range(newSize).map((i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - RADIUS * stretch + 0.5));
    const last = Math.min(size, Math.trunc(center + RADIUS * stretch + 0.5));
    const values = range(last - first).map((k) => cubic((k + first - center + 0.5) / stretch));
    const total = values.reduce((x, y) => x + y, 0);
    const weights = values.map((value) => wholeWeight(value / total));
    return { first, weights: Int32Array.from(weights) };
  });
}

/** @param {number} share */
function wholeWeight(share) {
  return Math.trunc(share * 2 ** PRECISION_BITS + (share < 0 ? -0.5 : 0.5));
}

/* resample */
const HALF = 2 ** (PRECISION_BITS - 1);

/**
 * The colour of one new place: written to `result`, which cuts it at 0 and 255.
 *
 * @param {Pixels["data"]} data
 * @param {{start: number, step: number}} where its old places are in `data`
 * @param {Int32Array} weights
 * @param {Uint8ClampedArray} result
 * @param {number} to
 */
function mixColors(data, { start, step }, weights, result, to) {
  let [r, g, b] = [HALF, HALF, HALF];
  for (let k = 0, at = start; k < weights.length; k++, at += step) {
    const weight = weights[k];
    r += weight * data[at];
    g += weight * data[at + 1];
    b += weight * data[at + 2];
  }
  result[to] = r >> PRECISION_BITS;
  result[to + 1] = g >> PRECISION_BITS;
  result[to + 2] = b >> PRECISION_BITS;
}

/**
 * @param {Pixels} picture
 * @param {number} width
 * @returns {Pixels}
 */
function resizeRows({ width: oldWidth, height, data }, width) {
  if (width === oldWidth) return { width, height, data };
  const result = new Uint8ClampedArray(4 * width * height).fill(255);
  const taps = sideTaps(oldWidth, width);
  for (let y = 0; y < height; y++) {
    taps.forEach(({ first, weights }, x) => {
      const where = { start: 4 * (y * oldWidth + first), step: 4 };
      mixColors(data, where, weights, result, 4 * (y * width + x));
    });
  }
  return { width, height, data: result };
}

/**
 * @param {Pixels} picture
 * @param {number} height
 * @returns {Pixels}
 */
function resizeColumns({ width, height: oldHeight, data }, height) {
  if (height === oldHeight) return { width, height, data };
  const result = new Uint8ClampedArray(4 * width * height).fill(255);
  sideTaps(oldHeight, height).forEach(({ first, weights }, y) => {
    for (let x = 0; x < width; x++) {
      const where = { start: 4 * (first * width + x), step: 4 * width };
      mixColors(data, where, weights, result, 4 * (y * width + x));
    }
  });
  return { width, height, data: result };
}

/**
 * A picture in another size, to the bit as `resize` with BICUBIC of Pillow 13: one side, rounded to
 * 8 bits, then the other. Columns come first where they lose more than twice as many places.
 *
 * @param {Pixels} picture
 * @param {Size} size
 * @returns {Pixels}
 */
export function resize(picture, [width, height]) {
  const lost = picture.height - height;
  const isTall = lost > 0 && lost > 2 * (picture.width - width);
  if (isTall) return resizeRows(resizeColumns(picture, height), width);
  return resizeColumns(resizeRows(picture, width), height);
}

/**
 * @param {Pixels} picture
 * @param {Size} size
 * @returns {Pixels}
 */
export function cropCenter(picture, [width, height]) {
  const left = roundHalfEven((picture.width - width) / 2);
  const top = roundHalfEven((picture.height - height) / 2);
  const data = new Uint8ClampedArray(4 * width * height);
  for (const y of range(height)) {
    const start = 4 * ((top + y) * picture.width + left);
    data.set(picture.data.subarray(start, start + 4 * width), 4 * y * width);
  }
  return { width, height, data };
}

/* view */
const STRIDE = 32; // of the last map of the network, in pixels
const LONGEST = 4; // times the shorter side; of a longer picture the middle is taken
const RIBBON = 16;

/**
 * Width and height of about `side` x `side` pixels in the shape of a picture.
 *
 * @param {Size} size
 * @param {number} side
 * @returns {Size}
 */
export function nearSize([width, height], side) {
  if (width === height) return [side, side];
  const ratio = Math.min(Math.max(width / height, 1 / LONGEST), LONGEST);
  const round = (/** @type {number} */ x) => Math.max(1, roundHalfEven(x / STRIDE)) * STRIDE;
  return [round(side * Math.sqrt(ratio)), round(side / Math.sqrt(ratio))];
}

/**
 * What the network sees of a picture, which keeps its sides.
 *
 * @param {Pixels} picture
 * @param {number} side
 * @returns {Pixels}
 */
export function viewOf(picture, side) {
  const [width, height] = nearSize([picture.width, picture.height], side);
  const longest = RIBBON * Math.min(picture.width, picture.height);
  const isRibbon = Math.max(picture.width, picture.height) > longest;
  const [oldWidth, oldHeight] = [picture.width, picture.height].map((x) => Math.min(x, longest));
  const cut = isRibbon ? cropCenter(picture, [oldWidth, oldHeight]) : picture;
  const isWider = oldWidth * height >= oldHeight * width;
  /** @type {Size} */
  const covering = isWider
    ? [Math.max(width, Math.floor((height * oldWidth) / oldHeight)), height]
    : [width, Math.max(height, Math.floor((width * oldHeight) / oldWidth))];
  return cropCenter(resize(cut, covering), [width, height]);
}

/**
 * Pixels as the network takes them.
 *
 * @param {Pixels} picture
 * @param {{mean: number[], std: number[]}} scale of red, green and blue in [0, 1]
 * @returns {Float32Array} (3, H, W)
 */
export function normalize({ width, height, data }, { mean, std }) {
  const count = width * height;
  const values = new Float32Array(3 * count);
  for (const c of range(3)) {
    const [middle, spread] = [Math.fround(mean[c]), Math.fround(std[c])];
    for (let i = 0; i < count; i++) {
      values[c * count + i] = Math.fround(Math.fround(data[4 * i + c] / 255) - middle) / spread;
    }
  }
  return values;
}
