/** The plan of a small pair after each iteration of Sinkhorn, beside the error. */

import {
  createNode,
  decodeFloat32,
  formatScore,
  listenToTraits,
  maximum,
  range,
  sum,
  viridis,
} from "./dom.js";

/**
 * @import {RenderContext} from "./dom.js"
 * @import {Numbers} from "./pair_data.js"
 *
 * @typedef {object} Trace The trait `trace` of the Python widget, or what the page computes.
 * @property {Record<"a" | "b", {src: string, label: string}>} pictures
 * @property {Numbers} plan (K, N, M) plan after each iteration.
 * @property {number[]} error_k L1 error of the column marginal after each iteration.
 * @property {number[]} mass_a (N,) marginal of A.
 * @property {number[]} mass_b (M,)
 * @property {string} eps As it is shown.
 *
 * @typedef {object} Iteration The plan after one iteration.
 * @property {Float32Array} plan (N, M)
 * @property {number[]} massA
 * @property {number[]} massB
 * @property {number} maxFlow Largest entry of all iterations, so that colours can be compared.
 */

const COLOR_A = "#0072B2";
const COLOR_B = "#D55E00";

/* sums */
/**
 * The plan after `k` iterations, counted from 1.
 *
 * @param {Trace} trace
 * @param {number} k
 * @returns {Iteration}
 */
export function planAfter(trace, k) {
  const plans = decodeFloat32(trace.plan);
  const size = trace.mass_a.length * trace.mass_b.length;
  return {
    plan: plans.subarray((k - 1) * size, k * size),
    massA: trace.mass_a,
    massB: trace.mass_b,
    maxFlow: maximum(plans),
  };
}

/** @param {Iteration} iteration */
export function rowSums({ plan, massA, massB }) {
  return range(massA.length).map((n) =>
    sum(plan.subarray(n * massB.length, (n + 1) * massB.length)),
  );
}

/** @param {Iteration} iteration */
export function columnSums({ plan, massA, massB }) {
  return range(massB.length).map((m) =>
    sum(range(massA.length).map((n) => plan[n * massB.length + m])),
  );
}

/* plan */
const CELL = 26;
const MARGIN = 46;
const BAR_LENGTH = 40;
const GAP = 6;

/**
 * The plan as coloured cells. Bars show what rows and columns sum to, lines what they should.
 *
 * @param {Iteration} iteration
 * @param {string} label for screen readers
 */
function buildPlan(iteration, label) {
  const { massA, massB } = iteration;
  const heaviest = 1.15 * Math.max(...massA, ...massB);
  const width = massB.length * CELL + MARGIN + 12;
  const height = massA.length * CELL + MARGIN + 12;
  const attributes = {
    class: "diml-plan",
    viewBox: `${-MARGIN - 8} ${-MARGIN - 8} ${width} ${height}`,
    role: "img",
    "aria-label": label,
  };
  return createNode(
    "svg",
    attributes,
    ...buildPlanCells(iteration),
    ...buildMassBars(columnSums(iteration), massB, heaviest, columnGeometry, COLOR_B),
    ...buildMassBars(rowSums(iteration), massA, heaviest, rowGeometry, COLOR_A),
  );
}

/** @param {Iteration} iteration */
function buildPlanCells({ plan, massB, maxFlow }) {
  return Array.from(plan, (mass, i) => {
    const n = Math.floor(i / massB.length);
    const m = i % massB.length;
    return createNode("rect", {
      x: m * CELL,
      y: n * CELL,
      width: CELL,
      height: CELL,
      fill: viridis(mass / maxFlow),
      "data-n": n,
      "data-m": m,
    });
  });
}

/**
 * @param {number[]} sums
 * @param {number[]} wanted
 * @param {number} heaviest mass of a bar of full length
 * @param {typeof columnGeometry} geometry
 * @param {string} color
 */
function buildMassBars(sums, wanted, heaviest, geometry, color) {
  const bars = sums.map((mass, i) => {
    const { bar } = geometry(i, (BAR_LENGTH * mass) / heaviest);
    return createNode("rect", { ...bar, fill: color, "fill-opacity": 0.6 });
  });
  const lines = wanted.map((mass, i) => {
    const { line } = geometry(i, (BAR_LENGTH * mass) / heaviest);
    return createNode("line", { ...line, stroke: "currentColor", "stroke-width": 2 });
  });
  return [...bars, ...lines];
}

/**
 * A bar above a column, and the line across its end.
 *
 * @param {number} i
 * @param {number} length
 */
export function columnGeometry(i, length) {
  const end = -GAP - length;
  return {
    bar: { x: 3 + i * CELL, y: end, width: CELL - GAP, height: length },
    line: { x1: i * CELL, x2: (i + 1) * CELL, y1: end, y2: end },
  };
}

/**
 * A bar left of a row, and the line across its end.
 *
 * @param {number} i
 * @param {number} length
 */
export function rowGeometry(i, length) {
  const end = -GAP - length;
  return {
    bar: { x: end, y: 3 + i * CELL, width: length, height: CELL - GAP },
    line: { x1: end, x2: end, y1: i * CELL, y2: (i + 1) * CELL },
  };
}

/* error */
/**
 * Positions of a chart of errors on a logarithmic scale, whose ticks are whole powers of ten.
 *
 * @param {number[]} errors
 */
export function errorScale(errors) {
  const logs = errors.map((error) => Math.log10(Math.max(error, 1e-12)));
  const high = Math.ceil(Math.max(...logs));
  const low = Math.floor(Math.min(...logs, high - 1));
  const last = Math.max(errors.length - 1, 1);
  return {
    logs,
    ticks: range(high - low + 1).map((i) => low + i),
    x: (/** @type {number} */ i) => 40 + (250 * i) / last,
    y: (/** @type {number} */ log) => 14 + (150 * (high - log)) / (high - low),
  };
}

/**
 * @param {number[]} errors
 * @param {number} k the iteration that is marked, counted from 1
 */
function buildErrorChart(errors, k) {
  const { logs, ticks, x, y } = errorScale(errors);
  const label = `error after iteration ${k}: ${errors[k - 1].toExponential(2)}`;
  const title = "L1 error of the columns, by iteration";
  return createNode(
    "svg",
    { class: "diml-error", viewBox: "0 0 300 204", role: "img", "aria-label": label },
    ...ticks.flatMap((log) => buildTick(log, y(log))),
    createNode("polyline", {
      points: logs.map((log, i) => `${x(i)},${y(log)}`).join(" "),
      fill: "none",
      stroke: COLOR_A,
      "stroke-width": 2,
    }),
    createNode("circle", { cx: x(k - 1), cy: y(logs[k - 1]), r: 6, fill: COLOR_B }),
    createNode("text", { x: 165, y: 196, "text-anchor": "middle" }, title),
  );
}

/**
 * @param {number} log
 * @param {number} y
 */
function buildTick(log, y) {
  const line = { x1: 40, x2: 290, y1: y, y2: y, stroke: "currentColor", "stroke-opacity": 0.2 };
  return [
    createNode("line", line),
    createNode("text", { x: 34, y: y + 4, "text-anchor": "end" }, `1e${log}`),
  ];
}

/* widget */
/**
 * @param {Trace} trace
 * @param {number} k
 * @param {number} maxFlow
 */
export function iterationText({ eps, error_k }, k, maxFlow) {
  const error = error_k[k - 1].toExponential(2);
  return (
    `After ${k} iteration${k > 1 ? "s" : ""} at eps ${eps}, the L1 error of the columns is ` +
    `${error}; the rows are exact. Darkest cell: no mass; brightest: ${formatScore(maxFlow)}.`
  );
}

/**
 * @param {Trace} trace
 * @param {"a" | "b"} side
 */
function buildPhoto({ pictures }, side) {
  const role = side === "a" ? "the rows" : "the columns";
  const { src, label } = pictures[side];
  return createNode(
    "figure",
    { class: `diml-photo diml-${side}` },
    createNode("figcaption", {}, `${side.toUpperCase()}, ${role}`),
    createNode("img", { src, alt: label }),
  );
}

/**
 * @param {HTMLElement} el
 * @param {Trace} trace
 * @param {number} chosen the iteration, counted from 1
 */
export function drawTrace(el, trace, chosen) {
  const k = Math.min(chosen, trace.error_k.length);
  const iteration = planAfter(trace, k);
  const says = iterationText(trace, k, iteration.maxFlow);
  const explanation =
    `Each row is one of the ${trace.mass_a.length} cells of A (blue), each column one of B ` +
    "(orange); bars: what they sum to, lines: what they should.";
  const photos = createNode("div", {}, buildPhoto(trace, "a"), buildPhoto(trace, "b"));
  const plan = buildPlan(iteration, says);
  const errors = buildErrorChart(trace.error_k, k);
  el.classList.add("diml-plan-view");
  el.replaceChildren(
    createNode("div", { class: "diml-trace" }, photos, plan, errors),
    createNode("p", {}, explanation),
    createNode("p", { class: "diml-says", "aria-live": "polite" }, says),
  );
  el.dataset.version = String(1 + Number(el.dataset.version ?? 0));
}

/**
 * Show the traits of a widget `SinkhornView`.
 *
 * @param {RenderContext} context
 * @returns {() => void} stops listening
 */
function render({ model, el }) {
  const redraw = () => drawTrace(el, model.get("trace"), model.get("iteration"));
  redraw();
  return listenToTraits(model, { trace: redraw, iteration: redraw });
}

export default { render };
