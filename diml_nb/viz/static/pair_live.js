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
 * @property {(rule: Partial<PairRequest>) => void} setRule What the pair's own controls do not say.
 * @property {() => PresentPair | null} present `null` as long as nothing is shown.
 *
 * @typedef {{data: PairPayload, request: PairRequest}} KnownAnswer
 *
 * @typedef {object} PresentPair What is shown, as a page could show it again: numbers, and the
 * controls and dropped cells that they belong to.
 * @property {PairPayload} data
 * @property {ControlPayload[]} controls
 * @property {ViewState} view
 */

/* live pair */
/**
 * Whether two requests have the same answer: parts or flows, a locked cell, the order of the table
 * change no number.
 *
 * @param {...PairRequest} requests
 */
function sameNumbers(...requests) {
  const [x, y] = requests.map(({ view, ...rule }) =>
    JSON.stringify([rule, view.dropped_a, view.dropped_b]),
  );
  return x === y;
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
  /** @type {ShownPair | null} */
  let pair = null;
  /** @type {KnownAnswer | null} */
  let known = null;
  const request = () =>
    /** @type {PairRequest} */ (/** @type {any} */ ({ ...rule, ...shown.values, view: value }));
  const answer = () => {
    const asked = request();
    if (!pair || (known && !alert.textContent && sameNumbers(known.request, asked))) return;
    const { data, obstacle = "" } = pair.solver(asked);
    alert.textContent = obstacle;
    if (!data) return;
    known = { data: withNotes(data, notes), request: asked };
    value = { ...value, part: null }; // its number stands for other cells
    pairView.update({ data: known.data, view: value });
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
    setRule: (next) => {
      rule = { ...rule, ...next };
      answerSoon();
    },
    show: (next) => {
      if (pair) value = freshView(value);
      pair = next;
      known = next.data ? { data: next.data, request: request() } : null;
      pairView.update({ pictures: next.pictures, data: next.data, view: value });
      answer();
      addDownload(box, pairView);
    },
    present: () => {
      answer();
      return known && presentPair(controls, known, value);
    },
  };
}

/**
 * Where what the reader asked for has no answer, the last that had one.
 *
 * @param {ControlPayload[]} controls
 * @param {KnownAnswer} known
 * @param {ViewState} value
 * @returns {PresentPair}
 */
function presentPair(controls, { data, request }, value) {
  const { dropped_a, dropped_b } = request.view;
  const view = { ...value, dropped_a, dropped_b };
  return { data, controls: withValues(controls, request), view };
}

/**
 * @param {ControlPayload[]} controls
 * @param {Record<string, any>} values by the name of the control
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
  const link = buildDownload("flows.csv", "download CSV", "text/csv", view.csv);
  box.querySelector(".diml-export")?.append(link);
}

/**
 * A link that saves a text as a file; the text is made when the link is pressed.
 *
 * @param {string} file
 * @param {string} words
 * @param {string} type
 * @param {() => string} makeText empty if there is nothing to save
 */
export function buildDownload(file, words, type, makeText) {
  const attributes = { class: "diml-button", download: file, href: "#" };
  const link = /** @type {HTMLAnchorElement} */ (createNode("a", attributes, words));
  link.addEventListener("click", (event) => {
    URL.revokeObjectURL(link.href); // of the file that was saved before
    const text = makeText();
    if (text) link.href = URL.createObjectURL(new Blob([text], { type }));
    else event.preventDefault();
  });
  return link;
}
