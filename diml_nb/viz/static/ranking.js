/** The candidates of a query, by the cosine and re-ranked: two rows of buttons. */

import { createNode, formatScore, listenToTraits } from "./dom.js";

/**
 * @import {RenderContext, WidgetModel} from "./dom.js"
 *
 * @typedef {object} Candidate
 * @property {number} index Position in the gallery.
 * @property {string} src Thumbnail.
 * @property {string} label
 * @property {boolean} right Of the class of the query.
 * @property {number} score
 * @property {number | null} move Places up in this list; `null` in the list before re-ranking.
 *
 * @typedef {object} Lists The trait `lists` of the Python widget.
 * @property {{src: string, label: string}} query
 * @property {{title: string, items: Candidate[]}[]} rows
 * @property {string} says
 *
 * @typedef {object} Choice The trait `value`: positions in the gallery.
 * @property {number | null} first The candidate that is opened as a pair.
 * @property {number | null} second The one that it is compared with.
 */

/* texts */
/** @param {number} move */
export function moveText(move) {
  if (move > 0) return `\u25b2${move}`;
  if (move < 0) return `\u25bc${-move}`;
  return "=";
}

/**
 * What a screen reader says of a candidate.
 *
 * @param {Candidate} candidate
 * @param {number} place counted from 1
 */
export function candidateLabel({ label, right, score, move }, place) {
  const moved = move === null ? "" : `, moved by ${move}`;
  const verdict = right ? "right" : "wrong";
  return `place ${place}: ${label}, ${verdict}, score ${formatScore(score)}${moved}`;
}

/** @param {Candidate} candidate */
export function candidateText({ score, move }) {
  return `${score.toFixed(3)} ${move === null ? "" : moveText(move)}`;
}

/**
 * @param {Candidate} candidate
 * @param {Choice} choice
 */
export function candidateRole({ index }, { first, second }) {
  if (index === first) return "first";
  return index === second ? "second" : "";
}

/* buttons */
/**
 * @param {Candidate} candidate
 * @param {number} place counted from 1
 * @param {Choice} choice
 * @param {(index: number, asSecond: boolean) => void} onChoose
 */
function buildCandidate(candidate, place, choice, onChoose) {
  const { index, src, right } = candidate;
  const role = candidateRole(candidate, choice);
  const label = candidateLabel(candidate, place);
  const classes = ["diml-item", right ? "diml-good" : "diml-bad"];
  if (role) classes.push(`diml-${role}`);
  const button = createNode(
    "button",
    {
      class: classes.join(" "),
      "aria-label": label,
      "aria-pressed": role !== "",
      "data-index": index,
      title: label,
    },
    createNode("img", { src, alt: "" }),
    createNode("span", { class: "diml-tick" }, right ? "\u2713" : "\u2717"),
    createNode("span", {}, candidateText(candidate)),
  );
  addCandidateListeners(/** @type {HTMLElement} */ (button), index, onChoose);
  return button;
}

/**
 * @param {HTMLElement} button
 * @param {number} index
 * @param {(index: number, asSecond: boolean) => void} onChoose
 */
function addCandidateListeners(button, index, onChoose) {
  button.addEventListener("click", (event) => onChoose(index, event.shiftKey));
  button.addEventListener("keydown", (event) => {
    if (event.key === "c") onChoose(index, true);
  });
}

/* focus */
/**
 * The candidate that has the focus: its position in the gallery and the title of its row.
 *
 * @param {HTMLElement} el
 */
function focusedCandidate(el) {
  const node = /** @type {HTMLElement | null} */ (el.querySelector(":focus"));
  return { index: node?.dataset.index, row: node?.closest(".diml-row")?.ariaLabel };
}

/**
 * Give the focus back after all buttons have been made anew.
 *
 * @param {HTMLElement} el
 * @param {ReturnType<typeof focusedCandidate>} focused
 */
function restoreFocus(el, { index, row }) {
  for (const node of el.querySelectorAll(".diml-item")) {
    const button = /** @type {HTMLElement} */ (node);
    const isSame = button.dataset.index === index;
    if (isSame && button.closest(".diml-row")?.ariaLabel === row) button.focus();
  }
}

/* widget */
/**
 * @param {WidgetModel} model
 * @param {HTMLElement} el
 */
function draw(model, el) {
  /** @type {Lists} */
  const { query, rows, says } = model.get("lists");
  const focused = focusedCandidate(el);
  const figure = createNode(
    "figure",
    { class: "diml-query" },
    createNode("img", { src: query.src, alt: "" }),
    createNode("figcaption", {}, query.label),
  );
  const lists = createNode("div", {}, ...rows.map((row) => buildRow(model, row)));
  el.replaceChildren(
    createNode("div", { class: "diml-lists" }, figure, lists),
    createNode("p", { class: "diml-judged", "aria-live": "polite" }, says),
  );
  restoreFocus(el, focused);
}

/**
 * @param {WidgetModel} model
 * @param {Lists["rows"][number]} row
 */
function buildRow(model, { title, items }) {
  /** @type {Choice} */
  const choice = model.get("value");
  const buttons = items.map((candidate, k) =>
    buildCandidate(candidate, k + 1, choice, (index, asSecond) => {
      const name = asSecond ? "second" : "first";
      model.set("value", { ...model.get("value"), [name]: index });
      model.save_changes();
    }),
  );
  const attributes = { class: "diml-row", role: "group", "aria-label": title };
  return createNode("div", attributes, createNode("b", {}, title), ...buttons);
}

/**
 * Show the traits of a widget `RankingView`.
 *
 * @param {RenderContext} context
 * @returns {() => void} stops listening
 */
function render({ model, el }) {
  const redraw = () => draw(model, el);
  redraw();
  return listenToTraits(model, { lists: redraw, value: redraw });
}

export default { render };
