/** The cheapest plan of a pair, without entropy: mass is sent along shortest paths, one by one. */

import { sum } from "./dom.js";

/**
 * @typedef {object} Network Where mass still waits, what flows, and prices for which no flow is
 * too dear.
 * @property {Float64Array} cost (N, M)
 * @property {Float64Array} supply Mass that has not left A.
 * @property {Float64Array} demand Mass that has not come to B.
 * @property {Float64Array} plan (N, M)
 * @property {Float64Array} priceA
 * @property {Float64Array} priceB
 *
 * @typedef {object} Tree Shortest paths from a cell of A.
 * @property {number} end The cell of B that they end at.
 * @property {Map<number, {from: number, length: number}>} rows Reached cells of A: from which of B.
 * @property {Int32Array} from The cell of A that leads to each cell of B.
 * @property {Float64Array} length Of the path to each cell of B, in prices.
 * @property {Uint8Array} done 1 for each cell of B whose path is known.
 */

const LEFT_OVER = 1e-14; // of the mass: rounding

/* cheapest plan */
/**
 * Ahuja, Magnanti and Orlin, Network Flows, section 9.7: successive shortest paths.
 *
 * @param {{cosine: Float64Array, massA: Float64Array, massB: Float64Array}} numbers
 */
export function cheapestPlan({ cosine, massA, massB }) {
  const network = {
    cost: cosine.map((value) => 1 - value),
    supply: Float64Array.from(massA),
    demand: Float64Array.from(massB),
    plan: new Float64Array(cosine.length),
    priceA: new Float64Array(massA.length),
    priceB: new Float64Array(massB.length),
  };
  for (const start of massA.keys()) {
    while (network.supply[start] > LEFT_OVER && sum(network.demand) > LEFT_OVER) {
      const tree = shortestPaths(network, start);
      raisePrices(network, tree);
      sendMass(network, start, tree);
    }
  }
  return network.plan;
}

/**
 * Dijkstra's algorithm: forward from any cell of A to any of B, backward where mass flows.
 *
 * @param {Network} network
 * @param {number} start
 * @returns {Tree}
 */
function shortestPaths(network, start) {
  const width = network.demand.length;
  const tree = {
    end: -1,
    rows: new Map([[start, { from: -1, length: 0 }]]),
    from: new Int32Array(width),
    length: new Float64Array(width).fill(Infinity),
    done: new Uint8Array(width),
  };
  relax(network, start, 0, tree);
  for (;;) {
    const end = nearest(tree);
    tree.done[end] = 1;
    if (network.demand[end] > LEFT_OVER) return { ...tree, end };
    for (const n of network.supply.keys()) {
      if (network.plan[n * width + end] > 0 && !tree.rows.has(n)) {
        tree.rows.set(n, { from: end, length: tree.length[end] });
        relax(network, n, tree.length[end], tree);
      }
    }
  }
}

/**
 * @param {Network} network
 * @param {number} n
 * @param {number} start length of the path to this cell of A
 * @param {Tree} tree
 */
function relax({ cost, priceA, priceB }, n, start, { length, from }) {
  const width = length.length;
  for (let m = 0; m < width; m++) {
    const reach = start + Math.max(0, cost[n * width + m] - priceA[n] - priceB[m]);
    if (reach < length[m]) {
      length[m] = reach;
      from[m] = n;
    }
  }
}

/** @param {Tree} tree */
function nearest({ length, done }) {
  let best = -1;
  for (let m = 0; m < length.length; m++) {
    if (!done[m] && (best < 0 || length[m] < length[best])) best = m;
  }
  return best;
}

/**
 * After that the path costs nothing, and still no flow is too dear.
 *
 * @param {Network} network
 * @param {Tree} tree
 */
function raisePrices({ priceA, priceB }, { end, rows, length, done }) {
  for (const [n, reached] of rows) priceA[n] += length[end] - reached.length;
  for (const m of priceB.keys()) {
    if (done[m]) priceB[m] -= length[end] - length[m];
  }
}

/**
 * @param {Network} network
 * @param {number} start
 * @param {Tree} tree
 */
function sendMass({ supply, demand, plan }, start, { end, rows, from }) {
  const width = demand.length;
  const forward = [];
  const backward = [];
  for (let m = end; m >= 0; ) {
    const n = from[m];
    forward.push(n * width + m);
    m = rows.get(n)?.from ?? -1;
    if (m >= 0) backward.push(n * width + m);
  }
  const amount = Math.min(supply[start], demand[end], ...backward.map((i) => plan[i]));
  for (const i of forward) plan[i] += amount;
  for (const i of backward) plan[i] -= amount;
  supply[start] -= amount;
  demand[end] -= amount;
}
