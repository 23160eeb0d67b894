/** The script of a page with pairs: each is shown, and matched again in the page where it can be. */

import { createNode } from "./dom.js";
import { createControls, oncePerFrame, waitingRoots } from "./page_controls.js";
import { createPairView } from "./pair.js";
import { createPairSolver } from "./pair_answer.js";
import { DEFAULT_VIEW, freshView } from "./pair_state.js";

/**
 * @import {MapPayload} from "./solver_cells.js"
 * @import {PairRequest} from "./pair_answer.js"
 * @import {PairPayload, Picture, Side} from "./pair_data.js"
 * @import {PairView} from "./pair.js"
 * @import {ControlPayload} from "./page_controls.js"
 * @import {ViewState} from "./pair_state.js"
 *
 * @typedef {object} LivePair What a page needs to match a pair without Python.
 * @property {Record<Side, MapPayload>} maps
 * @property {ControlPayload[]} controls
 * @property {Partial<ViewState>} view What the reader had done.
 * @property {string[]} notes Lines that stay below the pictures.
 *
 * @typedef {object} PagePayload
 * @property {Record<Side, Picture>} pictures
 * @property {PairPayload} data
 * @property {LivePair | null} live
 */

/* page pair */
/**
 * What the numbers depend on; parts or flows, a locked cell, the order of the table do not.
 *
 * @param {PairRequest} request
 */
function matchingInputs({ view, ...rule }) {
  return JSON.stringify([rule, view.dropped_a, view.dropped_b]);
}

/**
 * @param {HTMLElement} root
 * @param {PagePayload} payload
 * @returns {PagePayload} always what is shown
 */
export function showPair(root, payload) {
  const shown = { ...payload };
  const box = /** @type {HTMLElement} */ (createNode("div"));
  let onChange = (/** @type {ViewState} */ _) => {};
  const view = createPairView(box, (value) => onChange(value));
  if (payload.live) onChange = answerChanges(root, payload.live, view, shown);
  root.append(box);
  view.update({ pictures: payload.pictures, data: payload.data, view: payload.live?.view });
  addDownload(box, view);
  return shown;
}

/**
 * Match the pair anew when the reader moves a control or drops a cell.
 *
 * @param {HTMLElement} root gets the controls
 * @param {LivePair} live
 * @param {PairView} view
 * @param {PagePayload} page is kept up to date
 * @returns {(value: ViewState) => void} takes what the reader did to the view
 */
function answerChanges(root, { maps, controls, notes, ...live }, view, page) {
  const solver = createPairSolver(maps);
  const alert = createNode("p", { class: "diml-alert", role: "alert" });
  let value = { ...DEFAULT_VIEW, ...live.view };
  const request = () =>
    /** @type {PairRequest} */ (/** @type {any} */ ({ ...shown.values, view: value }));
  const answer = oncePerFrame(() => {
    const inputs = matchingInputs(request());
    const chosen = controls.map((control) => ({ ...control, value: shown.values[control.name] }));
    page.live = { maps, controls: chosen, view: value, notes };
    if (inputs === answered) return;
    const { data, obstacle = "" } = solver(request());
    alert.textContent = obstacle;
    answered = obstacle ? "" : inputs;
    if (!data) return;
    page.data = { ...data, notes: [...data.notes, ...notes] };
    view.update({ data: page.data, view: value });
  });
  const shown = createControls(controls, (name) => {
    // with another grid cells have new numbers
    if (name === "grid") value = freshView(value);
    answer();
  });
  let answered = matchingInputs(request());
  root.append(shown.node, alert);
  return (next) => {
    value = next;
    answer();
  };
}

/**
 * @param {HTMLElement} box
 * @param {PairView} view
 */
function addDownload(box, view) {
  const attributes = { class: "diml-button", download: "flows.csv", href: "#" };
  const link = /** @type {HTMLAnchorElement} */ (createNode("a", attributes, "download CSV"));
  link.addEventListener("click", () => {
    link.href = URL.createObjectURL(new Blob([view.csv()], { type: "text/csv" }));
  });
  box.querySelector(".diml-export")?.append(link);
}

for (const { root, payload } of waitingRoots("pair")) showPair(root, payload);
