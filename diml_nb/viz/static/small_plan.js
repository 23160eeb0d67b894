/** Two cells and two cells: a plan with one free number, and what eps makes of it. */

import { createNode, formatScore, listenToTraits, range, sum, viridis } from "./dom.js";
import { createControls, oncePerFrame } from "./page_controls.js";
import { solve } from "./solver_sinkhorn.js";

/**
 * @import {RenderContext} from "./dom.js"
 * @import {ControlPayload} from "./page_controls.js"
 *
 * @typedef {object} SmallProblem The trait `problem` of the Python widget.
 * @property {number[]} cost (2, 2), row by row.
 * @property {number[]} mass_a (2,)
 * @property {number[]} mass_b (2,)
 * @property {ControlPayload[]} controls One: eps.
 */

/* small plan */
/**
 * The plan in which `t` goes from cell 1 to cell 1: rows and columns say the rest.
 *
 * @param {SmallProblem} problem
 * @param {number} t
 */
export function planFrom({ mass_a: [a, c], mass_b: [b] }, t) {
  return [t, a - t, b - t, c - b + t];
}

/**
 * The values that `t` can have.
 *
 * @param {SmallProblem} problem
 */
export function freeRange({ mass_a: [a, c], mass_b: [b] }) {
  return { low: Math.max(0, b - c), high: Math.min(a, b) };
}

/**
 * Cost of a plan less eps times its entropy.
 *
 * @param {SmallProblem} problem
 * @param {number} eps
 * @param {number[]} plan
 */
export function objective({ cost }, eps, plan) {
  const terms = plan.map(
    (mass, i) => mass * cost[i] + (mass > 0 ? eps * mass * Math.log(mass) : 0),
  );
  return sum(terms);
}

/**
 * @param {SmallProblem} problem
 * @param {number} eps
 */
export function solveSmall({ cost, mass_a, mass_b }, eps) {
  const [c, massA, massB] = [cost, mass_a, mass_b].map((x) => Float64Array.from(x));
  return [...solve({ cost: c, massA, massB, eps }, { tol: 1e-10, maxIter: 20000 }).plan];
}

/* small pictures */
/**
 * @param {SmallProblem} problem
 * @param {number[]} plan
 */
function buildSmallTable({ mass_a, mass_b }, plan) {
  const most = Math.max(...mass_a, ...mass_b);
  const cells = plan.flatMap((mass, i) => {
    const [x, y] = [60 + 90 * (i % 2), 30 + 60 * Math.floor(i / 2)];
    const fill = viridis(mass / most);
    const ink = mass / most > 0.55 ? "#000" : "#fff";
    const place = { x: x + 45, y: y + 35, "text-anchor": "middle", style: `fill:${ink}` };
    return [
      createNode("rect", { x, y, width: 88, height: 58, fill }),
      createNode("text", place, formatScore(mass)),
    ];
  });
  const sums = [0, 1].flatMap((k) => [
    createNode("text", { x: 52, y: 65 + 60 * k, "text-anchor": "end" }, `a${k + 1} = ${mass_a[k]}`),
    createNode(
      "text",
      { x: 105 + 90 * k, y: 20, "text-anchor": "middle" },
      `b${k + 1} = ${mass_b[k]}`,
    ),
  ]);
  const attributes = { viewBox: "-20 0 270 160", role: "img", "aria-label": planLabel(plan) };
  return createNode("svg", attributes, ...cells, ...sums);
}

/** @param {number[]} plan */
function planLabel(plan) {
  return `the plan: ${plan.map(formatScore).join(", ")}`;
}

/**
 * The objective over t, in its own scale, with its minimum and the product of the masses.
 *
 * @param {SmallProblem} problem
 * @param {number} eps
 * @param {number} lowest t of the plan
 */
function buildObjective(problem, eps, lowest) {
  const { low, high } = freeRange(problem);
  const at = range(101).map((i) => low + ((high - low) * i) / 100);
  const values = at.map((t) => objective(problem, eps, planFrom(problem, t)));
  const bottom = Math.min(...values);
  const extent = Math.max(...values) - bottom || 1;
  const x = (/** @type {number} */ t) => 20 + (250 * (t - low)) / (high - low);
  const y = (/** @type {number} */ value) => 120 - (100 * (value - bottom)) / extent;
  const product = problem.mass_a[0] * problem.mass_b[0];
  const points = at.map((t, i) => `${x(t)},${y(values[i])}`).join(" ");
  const own = objective(problem, eps, planFrom(problem, lowest));
  return createNode(
    "svg",
    { viewBox: "0 0 290 160", role: "img", "aria-label": "objective above its minimum, over t" },
    createNode("line", {
      x1: x(product),
      x2: x(product),
      y1: 12,
      y2: 128,
      stroke: "currentColor",
      "stroke-dasharray": "3 4",
    }),
    createNode("polyline", { points, fill: "none", stroke: "#0072B2", "stroke-width": 2 }),
    createNode("circle", { cx: x(lowest), cy: y(own), r: 6, fill: "#D55E00" }),
    createNode(
      "text",
      { x: 145, y: 150, "text-anchor": "middle" },
      "t: mass from cell 1 to cell 1",
    ),
  );
}

/**
 * @param {SmallProblem} problem
 * @param {number} eps
 * @param {number[]} plan
 */
export function smallText({ cost, mass_a, mass_b }, eps, plan) {
  const paid = sum(plan.map((mass, i) => mass * cost[i]));
  return (
    `eps ${Number(eps.toPrecision(3))}: t = ${formatScore(plan[0])}, cost ${formatScore(paid)}. ` +
    `Dotted: the product of the masses, t = ${formatScore(mass_a[0] * mass_b[0])}.`
  );
}

/* small explorer */
/**
 * @param {HTMLElement} el
 * @param {SmallProblem} problem
 * @param {(eps: number) => void} onChange
 * @returns {(eps: number) => void} shows another eps
 */
export function showSmallPlan(el, problem, onChange) {
  const pictures = createNode("div", { class: "diml-small-pictures" });
  const says = createNode("p", { class: "diml-says", "aria-live": "polite" });
  const show = (/** @type {number} */ eps) => {
    const plan = solveSmall(problem, eps);
    pictures.replaceChildren(buildSmallTable(problem, plan), buildObjective(problem, eps, plan[0]));
    says.textContent = smallText(problem, eps, plan);
  };
  const changed = oncePerFrame(() => {
    show(controls.values.eps);
    onChange(controls.values.eps);
  });
  const controls = createControls(problem.controls, changed);
  el.classList.add("diml-small-plan");
  el.append(controls.node, pictures, says);
  show(controls.values.eps);
  return show;
}

/**
 * Show the traits of a widget `SmallPlanView`.
 *
 * @param {RenderContext} context
 * @returns {() => void} stops listening
 */
function render({ model, el }) {
  const show = showSmallPlan(el, model.get("problem"), (eps) => {
    model.set("eps", eps);
    model.save_changes();
  });
  return listenToTraits(model, { eps: () => show(model.get("eps")) });
}

export default { render };
