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
    parts: smallParts(),
    ...changes,
  };
}

/**
 * Part 1: the upper row of A (its flow of 0.5) and the first two rows of B. Part 2: A 3 and B 8.
 * The flow of 0.125 runs within part 1; A 2 is of no part, nor is B 7.
 *
 * @returns {PairPayload["parts"]}
 */
export function smallParts() {
  return {
    list: [
      {
        contribution: 0.125,
        mass: 0.625,
        cosine: 0.2,
        cell_mass: { a: 0.6875, b: 0.625 },
        face: { a: [0, 0, 0.5, 0.5], b: [1 / 3, 0, 2 / 3, 1 / 3] },
        color: "#E69F00",
      },
      {
        contribution: 0.125,
        mass: 0.25,
        cosine: 0.5,
        cell_mass: { a: 0.25, b: 0.25 },
        face: { a: [0.5, 0.5, 1, 1], b: [2 / 3, 2 / 3, 1, 1] },
        color: "#56B4E9",
      },
    ],
    label: { a: [0, 0, -1, 1], b: [0, 0, 0, 0, 0, 0, -1, -1, 1] },
    opacity: {
      a: encodeFloat32([0.75, 0, 0, 0.75]),
      b: encodeFloat32([0, 0.75, 0, 0, 0, 0, 0, 0, 0.5]),
    },
    rest: 0,
    text: "",
    summary: "100% of S within 2 parts, chance 49%",
    note: "",
  };
}
