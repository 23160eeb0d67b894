/** The cheapest plan of a pair, without entropy: mass is sent along shortest paths, one by one. */

import { range, sum } from "./dom.js";

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
 * @property {number} length Of the path to it, in prices.
 * @property {Map<number, {from: number, length: number}>} rows Reached cells of A: from which of B.
 * @property {Map<number, {from: number, length: number}>} columns Reached cells of B.
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
  for (const start of range(massA.length)) {
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
  const rows = new Map([[start, { from: -1, length: 0 }]]);
  const columns = new Map();
  const open = range(width).map(() => ({ from: -1, length: Infinity }));
  let fresh = [start];
  for (;;) {
    for (const n of fresh) relax(network, n, rows.get(n)?.length ?? 0, open);
    const end = nearest(open, columns);
    columns.set(end, open[end]);
    const { length } = open[end];
    if (network.demand[end] > LEFT_OVER) return { end, length, rows, columns };
    fresh = range(network.supply.length).filter(
      (n) => network.plan[n * width + end] > 0 && !rows.has(n),
    );
    for (const n of fresh) rows.set(n, { from: end, length });
  }
}

/**
 * @param {Network} network
 * @param {number} n
 * @param {number} length of the path to this cell of A
 * @param {{from: number, length: number}[]} open
 */
function relax({ cost, priceA, priceB }, n, length, open) {
  open.forEach((best, m) => {
    const reach = length + Math.max(0, cost[n * open.length + m] - priceA[n] - priceB[m]);
    if (reach < best.length) open[m] = { from: n, length: reach };
  });
}

/**
 * @param {{length: number}[]} open
 * @param {Map<number, unknown>} done
 */
function nearest(open, done) {
  return range(open.length)
    .filter((m) => !done.has(m))
    .reduce((best, m) => (open[m].length < open[best].length ? m : best));
}

/**
 * After that the path costs nothing, and still no flow is too dear.
 *
 * @param {Network} network
 * @param {Tree} tree
 */
function raisePrices({ priceA, priceB }, { length, rows, columns }) {
  for (const [n, reached] of rows) priceA[n] += length - reached.length;
  for (const [m, reached] of columns) priceB[m] -= length - reached.length;
}

/**
 * @param {Network} network
 * @param {number} start
 * @param {Tree} tree
 */
function sendMass({ supply, demand, plan }, start, { end, rows, columns }) {
  const width = demand.length;
  const forward = [];
  const backward = [];
  for (let m = end; m >= 0; ) {
    const n = columns.get(m)?.from ?? start;
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
