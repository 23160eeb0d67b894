/** The script of a page with the steps of a score: predict a number, then see it and its picture. */

import { createNode } from "./dom.js";
import { createControls, waitingRoots } from "./page_controls.js";

/**
 * @import {ControlPayload, PageControls} from "./page_controls.js"
 *
 * @typedef {object} StepPayload A step of `StepByStep` of the Python library.
 * @property {string} name
 * @property {string} shape
 * @property {string} code The line of the library that makes it.
 * @property {string} question Has a number as its answer.
 * @property {number} answer
 * @property {string} says The answer in words.
 * @property {string} src Its picture.
 */

/* steps */
/**
 * What is said of a guess: near is within a tenth of the answer.
 *
 * @param {StepPayload} step
 * @param {number} guess
 */
function verdictText({ answer, says }, guess) {
  if (Number.isNaN(guess)) return `${says}.`; // an empty field
  const isNear = Math.abs(guess - answer) <= 0.1 * Math.abs(answer);
  const named = guess.toLocaleString("en-US", { maximumSignificantDigits: 12 });
  return `${says}. ${isNear ? "Your guess was near." : `You said ${named}.`}`;
}

/**
 * A step before or after its answer. Before, the picture is that of the step before.
 *
 * @param {StepPayload[]} steps
 * @param {number} k
 * @param {boolean} isRevealed
 */
function buildStep(steps, k, isRevealed) {
  const { name, shape, code, question } = steps[k];
  const isHidden = !isRevealed && k > 0;
  const { src, name: shown } = steps[isHidden ? k - 1 : k];
  const title = createNode("h3", {}, `${k + 1}. ${name}`);
  if (isRevealed) title.append(createNode("small", {}, ` shape ${shape}`));
  const nodes = [
    title,
    createNode("pre", {}, code),
    createNode("p", {}, createNode("b", {}, "Predict: "), question),
    createNode("img", { src, alt: `the picture of the step ${shown}` }),
  ];
  const hint = "So far. The next picture comes with the answer.";
  return isHidden ? [...nodes, createNode("p", {}, hint)] : nodes;
}

/* page steps */
/**
 * A field for a guess, and a box that shows the answer.
 *
 * @param {() => void} onChange
 */
function buildAsking(onChange) {
  const guess = /** @type {HTMLInputElement} */ (
    createNode("input", { type: "number", step: "any", value: 0, "data-control": "guess" })
  );
  const reveal = /** @type {HTMLInputElement} */ (
    createNode("input", { type: "checkbox", "data-control": "revealed" })
  );
  const next = /** @type {HTMLButtonElement} */ (
    createNode("button", { type: "button", title: "after the last the first" }, "next step")
  );
  guess.addEventListener("input", onChange);
  reveal.addEventListener("change", onChange);
  const labels = [
    createNode("label", { class: "diml-control" }, "your guess", guess),
    createNode("label", { class: "diml-control" }, reveal, "show the answer"),
  ];
  return { guess, reveal, next, nodes: [...labels, next] };
}

/**
 * @param {HTMLElement} root
 * @param {{steps: StepPayload[], controls: ControlPayload[], note: string}} payload
 */
function showSteps(root, { steps, controls, note }) {
  const box = createNode("div", { class: "diml-steps" });
  const says = createNode("p", { class: "diml-says", "aria-live": "polite" });
  /** @type {PageControls} */
  let shown;
  const draw = () => {
    const k = shown.values.step - 1;
    says.textContent = reveal.checked ? verdictText(steps[k], guess.valueAsNumber) : "";
    box.replaceChildren(...buildStep(steps, k, reveal.checked), createNode("small", {}, note));
  };
  // the next question is a new one: no guess, no answer
  const askAnew = () => {
    guess.value = "0";
    reveal.checked = false;
    draw();
  };
  const { guess, reveal, next, nodes } = buildAsking(draw);
  shown = createControls(controls, askAnew);
  next.addEventListener("click", () => {
    shown.set("step", (shown.values.step % steps.length) + 1);
    askAnew();
  });
  shown.node.append(...nodes);
  root.append(shown.node, says, box);
  draw();
}

for (const { root, payload } of waitingRoots("steps")) showSteps(root, payload);
