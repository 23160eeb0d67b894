/** The score of a pair as a sum: bar charts, the table of flows, and the flows as CSV. */

import { createNode, formatPercent, formatScore, range, sum } from "./dom.js";
import { cellFlows, cellName, cellPosition, flowName } from "./pair_data.js";

/**
 * @import {Flow, Pair} from "./pair_data.js"
 * @import {PairUi, SortKey, ViewState} from "./pair_state.js"
 *
 * @typedef {object} Bar A row of a chart: a bar between two numbers.
 * @property {string} label
 * @property {number} from
 * @property {number} to
 * @property {"plus" | "minus" | "total"} kind
 * @property {string} text The number at the right.
 */

/** @type {SortKey[]} */
const SORT_KEYS = ["mass", "cosine", "contribution"];

/* bar charts */
/**
 * Bars below each other, each joined to the next by a line where it ends. A label that has no room
 * is wrapped.
 *
 * @param {Bar[]} bars
 * @param {string} label for screen readers
 */
function buildBarChart(bars, label) {
  const scale = barScale(bars);
  const rows = bars.flatMap((bar, i) => buildBarRow(bar, bars.slice(i - 1, i), scale));
  return createNode("div", { class: "diml-bars", role: "img", "aria-label": label }, ...rows);
}

/**
 * Places and lengths in a chart that shows all of these bars and 0, in percent of the bars' column.
 *
 * @param {Bar[]} bars
 * @returns {{position: (value: number) => number, length: (value: number) => number}}
 */
export function barScale(bars) {
  const ends = bars.flatMap((bar) => [bar.from, bar.to]);
  const low = Math.min(0, ...ends);
  const scale = 100 / (Math.max(...ends, 1e-9) - low);
  return {
    position: (value) => scale * (value - low),
    length: (value) => scale * Math.abs(value),
  };
}

/**
 * @param {Bar} bar
 * @param {Bar[]} above the bar that ends in a line to this one; none for the first
 * @param {ReturnType<typeof barScale>} scale
 */
function buildBarRow({ label, from, to, kind, text }, above, { position, length }) {
  const rect = createNode("rect", {
    x: `${position(Math.min(from, to))}%`,
    width: `${length(to - from)}%`,
    class: `diml-${kind}`,
  });
  const lines = above.map((bar) => {
    const x = `${position(bar.to)}%`;
    return createNode("line", { x1: x, x2: x, y1: -3, y2: 3 });
  });
  return [
    createNode("span", {}, label),
    createNode("svg", {}, rect, ...lines),
    createNode("span", {}, text),
  ];
}

/* waterfall */
/**
 * The score as a sum: the cosine of the images, the shown flows, all others together, the score.
 * The others are added up and not taken from the score, so that the residual is a real check.
 *
 * @param {Pair} pair
 * @returns {{bars: Bar[], check: string}}
 */
export function waterfall(pair) {
  const terms = pair.flows.map((flow) => termOf(flowName(pair, flow), flow.contribution));
  const otherCount = pair.contributions.length - terms.length;
  if (otherCount > 0) {
    const shown = sum(terms.map((term) => term.value));
    const name = `the other ${otherCount.toLocaleString("en")} flows`;
    terms.push(termOf(name, sum(pair.contributions) - shown));
  }
  let total = pair.cosine;
  const steps = terms.map(({ label, value }) => {
    const from = total;
    total += value;
    return changeBar(label, from, total, value);
  });
  const score = pair.cosine + pair.similarity;
  const residual = Math.abs(total - score).toExponential(0);
  const bars = [
    totalBar("cosine of the images", pair.cosine),
    ...steps,
    totalBar("score = cosine + S", score),
  ];
  const sums = `sum ${formatScore(total)} = score ${formatScore(score)}`;
  return { bars, check: `${sums}, residual ${residual}` };
}

/**
 * @param {string} label
 * @param {number} value
 */
function termOf(label, value) {
  return { label, value };
}

/**
 * @param {string} label
 * @param {number} from
 * @param {number} to
 * @param {number} value
 * @returns {Bar}
 */
function changeBar(label, from, to, value) {
  const sign = value < 0 ? "" : "+";
  return { label, from, to, kind: barKind(value), text: sign + formatScore(value) };
}

/**
 * @param {string} label
 * @param {number} value
 * @returns {Bar}
 */
function totalBar(label, value) {
  return { label, from: 0, to: value, kind: "total", text: formatScore(value) };
}

/** @param {number} value */
function barKind(value) {
  return value < 0 ? "minus" : "plus";
}

/** @param {PairUi} ui */
export function drawWaterfall({ pair, nodes }) {
  const { bars, check } = waterfall(pair);
  nodes.check.textContent = check;
  nodes.waterfall.replaceChildren(buildBarChart(bars, `waterfall: ${check}`));
}

/* table */
/**
 * The flows of the table: of the locked cell, else of the pair, by the chosen column.
 *
 * @param {Pair} pair
 * @param {ViewState} view
 * @returns {Flow[]}
 */
export function tableFlows(pair, view) {
  const flows = view.locked ? cellFlows(pair, view.locked) : [...pair.flows];
  return flows.sort((x, y) => y[view.sort] - x[view.sort]);
}

/**
 * The share of the similarity that the flows up to each one bring, as text.
 *
 * @param {Flow[]} flows
 * @param {number} similarity
 */
export function runningShares(flows, similarity) {
  let total = 0;
  return flows.map(({ contribution }) => {
    total += contribution;
    return similarity > 0 ? formatPercent(total / similarity, 1) : "\u2013";
  });
}

/**
 * The header is built once, so that the button that was pressed keeps the focus.
 *
 * @param {PairUi} ui
 */
export function buildTableHeader(ui) {
  for (const key of SORT_KEYS) {
    const button = createNode("button", { type: "button", "data-sort": key }, key);
    ui.headers[key] = buildHeading(button, "diml-number");
  }
  const row = createNode(
    "tr",
    {},
    buildHeading("A cell"),
    buildHeading("B cell"),
    ...SORT_KEYS.map((key) => ui.headers[key]),
    buildHeading("running share", "diml-number"),
  );
  ui.nodes.head.append(row);
}

/**
 * @param {Node | string} content
 * @param {string} [kind]
 */
function buildHeading(content, kind = "") {
  return createNode("th", { scope: "col", class: kind }, content);
}

/** @param {PairUi} ui */
export function drawTable(ui) {
  const { pair, view, nodes } = ui;
  for (const key of SORT_KEYS) {
    ui.headers[key].setAttribute("aria-sort", key === view.sort ? "descending" : "none");
  }
  ui.rows = tableFlows(pair, view);
  const shares = runningShares(ui.rows, pair.similarity);
  nodes.body.replaceChildren(...ui.rows.map((flow, i) => buildTableRow(pair, flow, shares[i])));
  nodes.caption.textContent = view.locked
    ? `The strongest flows of cell ${cellName(pair, view.locked)}`
    : `The ${ui.rows.length} strongest flows`;
}

/**
 * @param {Pair} pair
 * @param {Flow} flow
 * @param {string} share
 */
function buildTableRow(pair, flow, share) {
  const numbers = [...SORT_KEYS.map((key) => formatScore(flow[key])), share];
  return createNode(
    "tr",
    {},
    createNode("td", {}, cellPosition(pair, ["a", flow.n])),
    createNode("td", {}, cellPosition(pair, ["b", flow.m])),
    ...numbers.map((text) => createNode("td", { class: "diml-number" }, text)),
  );
}

/* CSV */
/**
 * The flows with all their digits; `n` and `m` are counted from 0, as in `plan_bnm[0, n, m]`.
 *
 * @param {Flow[]} flows
 */
export function toCsv(flows) {
  const rows = flows.map((flow) => [flow.n, flow.m, ...SORT_KEYS.map((key) => flow[key])].join());
  return ["n,m,mass,cosine,contribution", ...rows, ""].join("\n");
}

/**
 * Copy the table. Where the clipboard is closed to scripts, a text is selected and copied.
 *
 * @param {PairUi} ui
 */
export async function copyCsv({ root, nodes, rows }) {
  const text = toCsv(rows);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = /** @type {HTMLTextAreaElement} */ (createNode("textarea", {}, text));
    root.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    nodes.copy.focus();
  }
  nodes.copy.textContent = `copied ${rows.length} rows`;
  setTimeout(() => {
    nodes.copy.textContent = "copy as CSV";
  }, 2000);
}

/* comparison */
/**
 * Draw other scores of the pair, and the history of the solver.
 *
 * @param {PairUi} ui
 */
export function drawComparison(ui) {
  const { pair } = ui;
  const children = [];
  if (pair.beside.length > 0) {
    const bars = pair.beside.map(({ name, value }) => scoreBar(name, value));
    children.push(
      createNode("h2", {}, "Beside it"),
      buildBarChart(bars, "other scores of this pair"),
    );
  }
  if (pair.error_k.length > 0) {
    children.push(
      createNode("h2", {}, "The solver"),
      buildSparkline(pair.error_k),
      createNode("p", { class: "diml-small" }, solverText(pair.error_k)),
    );
  }
  ui.nodes.beside.replaceChildren(...children);
}

/**
 * @param {string} label
 * @param {number} value
 * @returns {Bar}
 */
function scoreBar(label, value) {
  return { label, from: 0, to: value, kind: barKind(value), text: formatScore(value) };
}

/** @param {number[]} errors */
function buildSparkline(errors) {
  const attributes = {
    class: "diml-spark",
    viewBox: "0 0 100 40",
    preserveAspectRatio: "none",
    "aria-hidden": true,
  };
  return createNode("svg", attributes, createNode("polyline", { points: sparkPoints(errors) }));
}

/**
 * Errors on a logarithmic scale, on which geometric convergence is a straight line.
 *
 * @param {number[]} errors
 */
export function sparkPoints(errors) {
  const logs = errors.map((error) => Math.log10(Math.max(error, 1e-9)));
  const high = Math.max(...logs);
  const extent = high - Math.min(...logs) || 1;
  const last = Math.max(1, errors.length - 1);
  return range(errors.length)
    .map((k) => `${(100 * k) / last},${2 + (36 * (high - logs[k])) / extent}`)
    .join(" ");
}

/** @param {number[]} errors */
export function solverText(errors) {
  const [first, last] = [errors[0], errors[errors.length - 1]].map((e) => e.toExponential(0));
  const progress = `${first} after 1 iteration, ${last} after ${errors.length}`;
  return `L1 error of the columns: ${progress} (log scale)`;
}
