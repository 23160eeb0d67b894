/** The candidates of a query, by the cosine, re-ranked and without parts: rows of buttons. */

import { createNode, formatScore, listenToTraits } from "./dom.js";
import { buildPartsPicture, buildPartsStrip } from "./ranking_parts.js";

/**
 * @import {RenderContext, WidgetModel} from "./dom.js"
 * @import {QueryCells, QueryPart} from "./ranking_parts.js"
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
 * @property {QueryPart[]} parts Of the query; empty if it does not fall into parts.
 * @property {QueryCells | null} cells
 * @property {string} note What dropping a part means, or why there is none.
 * @property {string} says
 *
 * @typedef {object} Choice The trait `value`: positions in the gallery.
 * @property {number | null} first The candidate that is opened as a pair.
 * @property {number | null} second The one that it is compared with.
 * @property {number[]} dropped Parts of the query, from 0.
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
 * What has the focus, as a selector: a candidate of a row, or the checkbox of a part.
 *
 * @param {HTMLElement} el
 */
function focusedSelector(el) {
  const node = /** @type {HTMLElement | null} */ (el.querySelector(":focus"));
  if (node?.dataset.part) return `[data-part="${node.dataset.part}"]`;
  const row = /** @type {HTMLElement | null | undefined} */ (node?.closest(".diml-row"));
  return row && `[data-row="${row.dataset.row}"] [data-index="${node?.dataset.index}"]`;
}

/* widget */
/**
 * @param {WidgetModel} model
 * @param {HTMLElement} el
 * @param {HTMLElement} says stays in the page, so that a screen reader hears of changes
 */
function draw(model, el, says) {
  /** @type {Lists} */
  const lists = model.get("lists");
  const selector = focusedSelector(el);
  const [before, after, ...without] = lists.rows.map((row, r) => buildRow(model, row, r));
  const rows = createNode(
    "div",
    { class: "diml-rows" },
    before,
    after,
    buildStrip(model, lists),
    ...without,
  );
  el.replaceChildren(buildQuery(model, lists), rows);
  says.textContent = lists.says;
  // all buttons have been made anew
  if (selector) /** @type {HTMLElement | null} */ (el.querySelector(selector))?.focus();
}

/**
 * The query, and below it the same picture with its parts.
 *
 * @param {WidgetModel} model
 * @param {Lists} lists
 */
function buildQuery(model, { query, parts, cells }) {
  const figure = createNode(
    "figure",
    { class: "diml-query" },
    createNode("img", { src: query.src, alt: "" }),
    createNode("figcaption", {}, query.label),
  );
  if (cells) figure.append(buildPartsPicture(cells, parts, model.get("value").dropped));
  return figure;
}

/**
 * @param {WidgetModel} model
 * @param {Lists} lists
 */
function buildStrip(model, { parts, note }) {
  return buildPartsStrip(parts, model.get("value").dropped, note, (dropped) => {
    model.set("value", { ...model.get("value"), dropped });
    model.save_changes();
  });
}

/**
 * @param {WidgetModel} model
 * @param {Lists["rows"][number]} row
 * @param {number} number of the row
 */
function buildRow(model, { title, items }, number) {
  /** @type {Choice} */
  const choice = model.get("value");
  const buttons = items.map((candidate, k) =>
    buildCandidate(candidate, k + 1, choice, (index, asSecond) => {
      const name = asSecond ? "second" : "first";
      model.set("value", { ...model.get("value"), [name]: index });
      model.save_changes();
    }),
  );
  const attributes = { class: "diml-row", role: "group", "aria-label": title, "data-row": number };
  return createNode("div", attributes, createNode("b", {}, title), ...buttons);
}

/**
 * Show the traits of a widget `RankingView`.
 *
 * @param {RenderContext} context
 * @returns {() => void} stops listening
 */
function render({ model, el }) {
  const lists = /** @type {HTMLElement} */ (createNode("div", { class: "diml-lists" }));
  const says = /** @type {HTMLElement} */ (
    createNode("p", { class: "diml-judged", "aria-live": "polite" })
  );
  el.replaceChildren(lists, says);
  const redraw = () => draw(model, lists, says);
  redraw();
  return listenToTraits(model, { lists: redraw, value: redraw });
}

export default { render };
