/** The images of a gallery in a page: lists by the cosine, and a table for each pair in a list. */

import { decodeFloat32, decodeInt16 } from "./dom.js";

/**
 * @import {Grid} from "./pair_data.js"
 * @import {PairTable} from "./solver_match.js"
 *
 * @typedef {object} GalleryImage
 * @property {string} src As the network saw it.
 * @property {string} name
 * @property {number} kind Its class.
 *
 * @typedef {object} GalleryPayload What `pack_gallery` of the Python library sends.
 * @property {Grid} grid Of the cells of each image.
 * @property {number} top_k How many places of each list are matched.
 * @property {number[][]} order The list of each image by the cosine, at least `top_k` places.
 * @property {[number, number][]} pairs The two images of each table, the smaller number first.
 * @property {string} cosine (P, N, N) in int16, as `decodeInt16` reads it.
 * @property {string} common (P, 2, N) of each cell with the whole of the other image, the same.
 * @property {string} whole (P,) cosine of the whole images, in float32.
 * @property {string} length (images, N) of each cell, in float32.
 *
 * @typedef {object} Gallery
 * @property {GalleryImage[]} images
 * @property {number} topK
 * @property {number[][]} order
 * @property {(q: number, n: number) => PairTable} tableOf
 */

/* gallery */
/**
 * @param {GalleryImage[]} images
 * @param {GalleryPayload} payload
 * @returns {Gallery}
 */
export function readGallery(images, payload) {
  const { grid, pairs, top_k, order } = payload;
  const count = grid[0] * grid[1];
  const cosine = decodeInt16(payload.cosine);
  const common = decodeInt16(payload.common);
  const whole = decodeFloat32(payload.whole);
  const length = decodeFloat32(payload.length);
  const places = new Map(pairs.map(([i, j], p) => [i * images.length + j, p]));
  const lengthOf = (/** @type {number} */ n) =>
    Float64Array.from(length.subarray(n * count, (n + 1) * count));
  /** @type {Gallery["tableOf"]} */
  const tableOf = (q, n) => {
    const isTurned = q > n;
    const p = places.get(isTurned ? n * images.length + q : q * images.length + n);
    if (p === undefined) throw new Error(`there is no table of ${q} and ${n}`);
    const values = sharesAt(cosine, p, count * count);
    const sides = [sharesAt(common, 2 * p, count), sharesAt(common, 2 * p + 1, count)];
    return {
      cosine: isTurned ? transposed(values, count) : values,
      common: { a: sides[Number(isTurned)], b: sides[Number(!isTurned)] },
      length: { a: lengthOf(q), b: lengthOf(n) },
      grid: { a: grid, b: grid },
      wholeCosine: whole[p],
    };
  };
  return { images, topK: top_k, order, tableOf };
}

/**
 * The piece number `i` of some values, of which 32767 is 1.
 *
 * @param {Int16Array} values
 * @param {number} i
 * @param {number} count
 */
function sharesAt(values, i, count) {
  const piece = Float64Array.from(values.subarray(i * count, (i + 1) * count));
  return piece.map((x) => x / 32767);
}

/**
 * @param {Float64Array} square
 * @param {number} side
 */
function transposed(square, side) {
  return square.map((_, i) => square[(i % side) * side + Math.floor(i / side)]);
}
