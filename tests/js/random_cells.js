/** Random cells for tests and for measuring, the same each time. */

import { tableOf } from "../../diml_nb/viz/static/solver_match.js";

/** @import {Cells} from "../../diml_nb/viz/static/solver_cells.js" */

/** @type {import("../../diml_nb/viz/static/solver_match.js").MatchRequest} */
export const rule = {
  marginals: "cross_correlation",
  plan: "transport",
  eps: 0.05,
  max_iter: 200,
  dropped_a: [],
  dropped_b: [],
};

/** @param {number} seed */
function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.35;
  };
}

/**
 * @param {[number, number]} grid
 * @param {number} channels
 * @param {number} seed
 * @returns {Cells}
 */
export function randomCells(grid, channels, seed) {
  const random = generator(seed);
  const count = grid[0] * grid[1];
  const vectors = Array.from({ length: count + 1 }, () =>
    Float64Array.from({ length: channels }, random),
  );
  const length = vectors.map((x) => Math.hypot(...x));
  const units = vectors.map((x, n) => x.map((value) => value / length[n]));
  return {
    grid,
    local: units.slice(0, count),
    length: Float64Array.from(length.slice(0, count)),
    whole: units[count],
  };
}

/**
 * A gallery of random images, each the candidate of each.
 *
 * @param {number} count
 * @param {[number, number]} grid
 * @param {number} channels
 * @returns {import("../../diml_nb/viz/static/gallery_data.js").Gallery}
 */
export function randomGallery(count, grid, channels) {
  const cells = Array.from({ length: count }, (_, n) => randomCells(grid, channels, n + 1));
  const others = cells.map((_, q) => cells.map((_x, n) => n).filter((n) => n !== q));
  return {
    images: cells.map((_, n) => ({ src: "", name: `image ${n}`, kind: n % 7 })),
    topK: count - 1,
    order: others,
    tableOf: (q, n) => tableOf(cells[q], cells[n]),
  };
}
