/** The maps of a pair with as few channels as hold their inner products, as `pack_maps`. */

import { innerProduct, readMap } from "./solver_cells.js";

/**
 * @import {Side} from "./pair_data.js"
 * @import {MapPayload} from "./solver_cells.js"
 */

/* packed maps */
const NOTHING_NEW = 1e-6; // of the length of a vector: what is left is rounding

/**
 * Vectors in the space that they span, by the method of Gram and Schmidt, each made orthogonal
 * twice so that rounding does not add up.
 *
 * @param {Float64Array[]} vectors
 * @returns {Float64Array[]} as many numbers each as there are vectors, and no more than before
 */
export function turnVectors(vectors) {
  /** @type {Float64Array[]} */
  const basis = [];
  const size = Math.min(vectors.length, vectors[0].length);
  return vectors.map((vector) => {
    const turned = new Float64Array(size);
    const rest = vector.slice();
    for (let round = 0; round < 2; round++) {
      basis.forEach((unit, k) => {
        const share = innerProduct(unit, rest);
        turned[k] += share;
        for (let c = 0; c < rest.length; c++) rest[c] -= share * unit[c];
      });
    }
    const left = Math.sqrt(innerProduct(rest, rest));
    if (left > NOTHING_NEW * Math.sqrt(innerProduct(vector, vector))) {
      turned[basis.length] = left;
      basis.push(rest.map((value) => value / left));
    }
    return turned;
  });
}

/**
 * @param {Record<Side, MapPayload>} maps
 * @returns {Record<Side, MapPayload>}
 */
export function packMaps({ a, b }) {
  const turned = turnVectors([...readMap(a).places, ...readMap(b).places]);
  const countA = a.shape[1] * a.shape[2];
  return {
    a: packMap(a, turned.slice(0, countA)),
    b: packMap(b, turned.slice(countA)),
  };
}

/**
 * @param {MapPayload} map
 * @param {Float64Array[]} places
 * @returns {MapPayload}
 */
function packMap({ shape: [, height, width] }, places) {
  const channels = places[0].length;
  const values = new Float32Array(channels * places.length);
  places.forEach((vector, i) => {
    vector.forEach((value, c) => {
      values[c * places.length + i] = value;
    });
  });
  return { shape: [channels, height, width], values };
}
