/** Feature maps cut into cells, as `grid_features` of the Python library cuts them. */

import { decodeFloat32, range } from "./dom.js";

/**
 * @import {Grid, Side} from "./pair_data.js"
 *
 * @typedef {object} MapPayload A feature map as a page stores it.
 * @property {[number, number, number]} shape Channels, height, width.
 * @property {string | Float32Array} values (C, H, W), row by row.
 *
 * @typedef {object} FeatureMap
 * @property {number} channels
 * @property {number} height
 * @property {number} width
 * @property {Float64Array[]} places The vector of each place, row by row.
 *
 * @typedef {object} Cells An image as parts.
 * @property {Grid} grid
 * @property {Float64Array[]} local The unit vector of each cell.
 * @property {Float64Array} length Of each cell, before it was made a unit vector.
 * @property {Float64Array} whole The unit vector of the whole image.
 */

/* cells */
/**
 * @param {MapPayload} payload
 * @returns {FeatureMap}
 */
export function readMap({ shape: [channels, height, width], values }) {
  const flat = decodeFloat32(values);
  const count = height * width;
  const places = range(count).map((i) =>
    Float64Array.from({ length: channels }, (_, c) => flat[c * count + i]),
  );
  return { channels, height, width, places };
}

/**
 * A number rounded as Python rounds it: a half goes to the even neighbour.
 *
 * @param {number} x
 */
export function roundHalfEven(x) {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}

/**
 * Rows and columns of about `cellsASide`^2 cells for a map of this shape.
 *
 * @param {number} cellsASide
 * @param {{height: number, width: number}} map
 * @returns {Grid}
 */
export function fitGrid(cellsASide, { height, width }) {
  const stretch = Math.sqrt(width / height);
  return [
    Math.max(1, roundHalfEven(cellsASide / stretch)),
    Math.max(1, roundHalfEven(cellsASide * stretch)),
  ];
}

/**
 * What cuts the maps of a pair. The cells of the last grid are kept.
 *
 * @param {Record<Side, MapPayload>} payload
 * @returns {(cellsASide: number) => Record<Side, Cells>}
 */
export function createCutter(payload) {
  const maps = { a: readMap(payload.a), b: readMap(payload.b) };
  /** @type {Map<number, Record<Side, Cells>>} */
  const kept = new Map();
  return (cellsASide) => {
    const cells = kept.get(cellsASide) ?? {
      a: cutCells(maps.a, fitGrid(cellsASide, maps.a)),
      b: cutCells(maps.b, fitGrid(cellsASide, maps.b)),
    };
    kept.clear();
    kept.set(cellsASide, cells);
    return cells;
  };
}

/**
 * How much each place along one side of a map counts for each cell: blocks are averaged, or the
 * side is first resampled to four places a cell, its ends kept.
 *
 * @param {number} size
 * @param {number} cells
 * @param {boolean} isResampled
 * @returns {number[][]} a row of `size` weights for each cell, which sum to 1
 */
export function sideWeights(size, cells, isResampled) {
  const samples = isResampled ? 4 * cells : size;
  const step = isResampled ? (size - 1) / (samples - 1) : 1;
  const weights = range(cells).map(() => Array(size).fill(0));
  for (const i of range(samples)) {
    const row = weights[Math.floor((i * cells) / samples)];
    const low = Math.min(Math.floor(i * step), size - 1);
    const part = i * step - low;
    row[low] += ((1 - part) * cells) / samples;
    if (part > 0) row[Math.min(low + 1, size - 1)] += (part * cells) / samples;
  }
  return weights;
}

/**
 * @param {FeatureMap} map
 * @param {Grid} grid
 * @returns {Cells}
 */
export function cutCells(map, grid) {
  const [rows, columns] = grid;
  const isResampled = map.height % rows > 0 || map.width % columns > 0;
  const down = sideWeights(map.height, rows, isResampled);
  const across = sideWeights(map.width, columns, isResampled);
  const means = down.flatMap((rowWeights) =>
    across.map((columnWeights) =>
      weightedSum(map, (i) => rowWeights[Math.floor(i / map.width)] * columnWeights[i % map.width]),
    ),
  );
  return {
    grid,
    local: means.map(unitVector),
    length: Float64Array.from(means, vectorLength),
    whole: unitVector(weightedSum(map, () => 1)),
  };
}

/**
 * @param {FeatureMap} map
 * @param {(place: number) => number} weightOf
 */
function weightedSum({ channels, places }, weightOf) {
  const total = new Float64Array(channels);
  places.forEach((vector, i) => {
    const weight = weightOf(i);
    if (weight === 0) return;
    for (let c = 0; c < channels; c++) total[c] += weight * vector[c];
  });
  return total;
}

/**
 * @param {Float64Array} x
 * @param {Float64Array} y
 */
export function innerProduct(x, y) {
  let total = 0;
  for (let c = 0; c < x.length; c++) total += x[c] * y[c];
  return total;
}

/** @param {Float64Array} x */
function vectorLength(x) {
  return Math.sqrt(innerProduct(x, x));
}

/**
 * A vector of length 1; that of length 0 has no direction and stays as it is.
 *
 * @param {Float64Array} x
 */
function unitVector(x) {
  const length = vectorLength(x) || 1;
  return x.map((value) => value / length);
}
