/** Random cells for tests and for measuring, the same each time. */

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
