/** A small pair for the tests: 2 x 2 cells of A, 3 x 3 cells of B, so that no side passes for the other. */

/** @import {PairPayload} from "../../diml_nb/viz/static/pair_data.js" */

/** @param {number[]} numbers */
export function encodeFloat32(numbers) {
  return Buffer.from(new Float32Array(numbers).buffer).toString("base64");
}

/**
 * Flows of 0.5 (A 0 to B 1), 0.25 (A 3 to B 8) and 0.125 (A 0 to B 2, with a negative cosine).
 *
 * @param {Partial<PairPayload>} [changes]
 * @returns {PairPayload}
 */
export function smallPayload(changes = {}) {
  const plan = Array(36).fill(0);
  const local = Array(36).fill(0.5);
  plan[1] = 0.5;
  plan[3 * 9 + 8] = 0.25;
  plan[2] = 0.125;
  local[2] = -1;
  return {
    grid_a: [2, 2],
    grid_b: [3, 3],
    plan: encodeFloat32(plan),
    local: encodeFloat32(local),
    mass_a: encodeFloat32([0.625, 0.0625, 0.0625, 0.25]),
    mass_b: encodeFloat32([0, 0.5, 0.125, 0, 0, 0, 0, 0.125, 0.25]),
    similarity: 0.25,
    cosine: 0.5,
    top: 12,
    text: "in words",
    beside: [],
    notes: [],
    error_k: [],
    live: false,
    ...changes,
  };
}
