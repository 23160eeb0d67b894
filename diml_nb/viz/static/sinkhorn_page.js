/** The script of a page with the iterations of a pair, computed anew in the page. */

import { createNode } from "./dom.js";
import { createControls, oncePerFrame, valueText, waitingRoots } from "./page_controls.js";
import { drawTrace } from "./sinkhorn.js";
import { createCutter } from "./solver_cells.js";
import { tableOf, transportProblem, weighTable } from "./solver_match.js";
import { traceIterations } from "./solver_sinkhorn.js";

/**
 * @import {Side} from "./pair_data.js"
 * @import {ControlPayload} from "./page_controls.js"
 * @import {Trace} from "./sinkhorn.js"
 * @import {MapPayload} from "./solver_cells.js"
 *
 * @typedef {object} TraceRequest The state of a `SinkhornExplorer` of the Python library.
 * @property {number} grid
 * @property {string} marginals
 * @property {number} eps
 */

/* trace answer */
/**
 * What answers requests about the iterations of a pair.
 *
 * @param {Record<Side, MapPayload>} maps
 * @param {number} count how many iterations
 * @returns {(request: TraceRequest) => Omit<Trace, "pictures">}
 */
export function createTraceSolver(maps, count) {
  const cellsOf = createCutter(maps);
  return ({ grid, marginals, eps }) => {
    const { a, b } = cellsOf(grid);
    const weighed = weighTable(tableOf(a, b), { marginals, dropped_a: [], dropped_b: [] });
    const { plans, errors } = traceIterations(transportProblem(weighed, eps), count);
    return {
      plan: plans.flatMap((plan) => [...plan]),
      error_k: errors,
      mass_a: [...weighed.massA],
      mass_b: [...weighed.massB],
      eps: valueText({ kind: "log" }, eps),
    };
  };
}

/* page iterations */
/**
 * @param {HTMLElement} root
 * @param {{trace: Trace, live: {maps: Record<Side, MapPayload>, controls: ControlPayload[]}}} payload
 */
function showIterations(root, { trace, live }) {
  const el = /** @type {HTMLElement} */ (createNode("div"));
  const solver = createTraceSolver(live.maps, trace.error_k.length);
  let shown = trace;
  const draw = oncePerFrame(() => drawTrace(el, shown, controls.values.iteration));
  const controls = createControls(live.controls, (name) => {
    if (name !== "iteration") {
      shown = { ...trace, ...solver(/** @type {any} */ (controls.values)) };
    }
    draw();
  });
  root.append(controls.node, el);
  draw();
}

for (const { root, payload } of waitingRoots("sinkhorn")) showIterations(root, payload);
