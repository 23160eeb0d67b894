/** A pair that is matched in the page: its controls, its view, and what keeps them together. */

import { createNode } from "./dom.js";
import { createControls, oncePerFrame } from "./page_controls.js";
import { createPairView } from "./pair.js";
import { DEFAULT_VIEW, freshView } from "./pair_state.js";

/**
 * @import {PairAnswer, PairRequest} from "./pair_answer.js"
 * @import {PairPayload, Picture, Side} from "./pair_data.js"
 * @import {PairView} from "./pair.js"
 * @import {ControlPayload, PageControls} from "./page_controls.js"
 * @import {ViewState} from "./pair_state.js"
 *
 * @typedef {object} ShownPair
 * @property {Record<Side, Picture>} pictures
 * @property {(request: PairRequest) => PairAnswer} solver
 * @property {PairPayload} [data] The answer to the present request, where it is known.
 *
 * @typedef {object} LiveView
 * @property {PageControls} controls
 * @property {(pair: ShownPair) => void} show Another pair; nothing of it is dropped.
 * @property {(rule: Partial<PairRequest>) => void} fix What the pair's own controls do not say.
 * @property {() => PresentPair} present
 *
 * @typedef {object} PresentPair What is shown, as a page could show it again.
 * @property {PairPayload} [data]
 * @property {ControlPayload[]} controls
 * @property {ViewState} view
 */

/* live pair */
/**
 * What the numbers depend on; parts or flows, a locked cell, the order of the table do not.
 *
 * @param {PairRequest} request
 */
function matchingInputs({ view, ...rule }) {
  return JSON.stringify([rule, view.dropped_a, view.dropped_b]);
}

/**
 * @param {HTMLElement} root gets controls and view
 * @param {ControlPayload[]} controls
 * @param {{notes: string[], view?: Partial<ViewState>, fixed?: Partial<PairRequest>}} options `notes`
 * stay below the pictures, `view` is what the reader had done
 * @returns {LiveView}
 */
export function createLivePair(root, controls, { notes, view = {}, fixed = {} }) {
  const alert = createNode("p", { class: "diml-alert", role: "alert" });
  const box = /** @type {HTMLElement} */ (createNode("div"));
  let value = { ...DEFAULT_VIEW, ...view };
  let rule = fixed;
  let answered = "";
  /** @type {ShownPair | null} */
  let pair = null;
  /** @type {PairPayload | undefined} */
  let known;
  const request = () =>
    /** @type {PairRequest} */ (/** @type {any} */ ({ ...rule, ...shown.values, view: value }));
  const answer = () => {
    const inputs = matchingInputs(request());
    if (!pair || inputs === answered) return;
    const { data, obstacle = "" } = pair.solver(request());
    alert.textContent = obstacle;
    answered = obstacle ? "" : inputs;
    if (!data) return;
    known = withNotes(data, notes);
    pairView.update({ data: known, view: value });
  };
  const answerSoon = oncePerFrame(answer);
  const pairView = createPairView(box, (next) => {
    value = next;
    answerSoon();
  });
  const shown = createControls(controls, (name) => {
    // with another grid cells have new numbers
    if (name === "grid") value = freshView(value);
    answerSoon();
  });
  root.append(shown.node, alert, box);
  return {
    controls: shown,
    fix: (next) => {
      rule = { ...rule, ...next };
      answerSoon();
    },
    show: (next) => {
      if (pair) value = freshView(value);
      pair = next;
      known = next.data;
      answered = known ? matchingInputs(request()) : "";
      pairView.update({ pictures: next.pictures, data: next.data, view: value });
      answer();
      addDownload(box, pairView);
    },
    present: () => ({ data: known, controls: withValues(controls, shown.values), view: value }),
  };
}

/**
 * @param {ControlPayload[]} controls
 * @param {Record<string, any>} values
 */
function withValues(controls, values) {
  return controls.map((control) => ({ ...control, value: values[control.name] }));
}

/**
 * @param {PairPayload} data
 * @param {string[]} notes
 */
function withNotes(data, notes) {
  return { ...data, notes: [...data.notes, ...notes] };
}

/**
 * A link that saves the flows as a file; once for a view.
 *
 * @param {HTMLElement} box
 * @param {PairView} view
 */
export function addDownload(box, view) {
  if (box.querySelector("a[download]")) return;
  const attributes = { class: "diml-button", download: "flows.csv", href: "#" };
  const link = /** @type {HTMLAnchorElement} */ (createNode("a", attributes, "download CSV"));
  link.addEventListener("click", () => {
    link.href = URL.createObjectURL(new Blob([view.csv()], { type: "text/csv" }));
  });
  box.querySelector(".diml-export")?.append(link);
}
