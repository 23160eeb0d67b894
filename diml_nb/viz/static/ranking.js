/**
 * The candidates of a query, by the cosine, re-ranked and without parts: rows of buttons; and why
 * one of them stands above another.
 */

import { createNode, formatScore, listenToTraits } from "./dom.js";
import { buildPartsPicture, buildPartsStrip, partsLabel } from "./ranking_parts.js";
import { buildReason } from "./ranking_why.js";

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
 * @property {boolean} by_cells The difference is also shown cell by cell.
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
    if (event.ctrlKey || event.metaKey || event.altKey) return; // Ctrl+C copies
    if (event.key === "c") onChoose(index, true);
  });
}

/* focus */
/**
 * What has the focus, as a selector: a candidate of a row, or a checkbox. Empty for all else.
 *
 * @param {HTMLElement} el
 */
function focusedSelector(el) {
  const node = /** @type {HTMLElement | null} */ (document.activeElement);
  if (!node || !el.contains(node)) return "";
  if (node.dataset.part) return `[data-part="${node.dataset.part}"]`;
  if ("byCells" in node.dataset) return "[data-by-cells]";
  const row = /** @type {HTMLElement | null} */ (node.closest(".diml-row"));
  return row ? `[data-row="${row.dataset.row}"] [data-index="${node.dataset.index}"]` : "";
}

/**
 * Draw elements anew, and give the focus to what stands where it was.
 *
 * @param {HTMLElement} el
 * @param {() => void} drawAnew
 */
function keepFocus(el, drawAnew) {
  const selector = focusedSelector(el);
  drawAnew();
  if (selector) /** @type {HTMLElement | null} */ (el.querySelector(selector))?.focus();
}

/* widget */
/**
 * @typedef {object} RankingNodes What stays in the page when the lists change.
 * @property {HTMLElement} el
 * @property {HTMLElement} lists
 * @property {HTMLElement} says A screen reader hears of its changes.
 * @property {HTMLElement} reason
 * @property {HTMLInputElement} compares If it is checked, a click chooses the second candidate.
 */

/** @returns {RankingNodes} */
function buildFrame() {
  const [el, lists, reason] = ["diml-ranking", "diml-lists", "diml-why"].map((name) =>
    createNode("div", { class: name }),
  );
  const says = createNode("p", { class: "diml-judged", "aria-live": "polite" });
  const compares = createNode("input", { type: "checkbox", "data-compares": "" });
  const text = "a click compares with the chosen candidate";
  el.append(createNode("label", { class: "diml-compares" }, compares, text), lists, says, reason);
  return /** @type {any} */ ({ el, lists, says, reason, compares });
}

/**
 * @param {WidgetModel} model
 * @param {RankingNodes} nodes
 */
function drawLists(model, nodes) {
  /** @type {Lists} */
  const lists = model.get("lists");
  const choose = chooser(model, nodes);
  const [before, after, ...without] = lists.rows.map((row, r) =>
    buildListRow(model.get("value"), row, r, choose),
  );
  const rows = createNode(
    "div",
    { class: "diml-rows" },
    before,
    after,
    buildStrip(model, lists),
    ...without,
  );
  nodes.lists.replaceChildren(buildQuery(model, lists), rows);
  if (nodes.says.textContent !== lists.says) nodes.says.textContent = lists.says;
  drawReason(model, nodes);
}

/**
 * @param {WidgetModel} model
 * @param {RankingNodes} nodes
 */
function drawReason(model, nodes) {
  const reason = model.get("reason");
  const hasReason = Object.keys(reason ?? {}).length > 0; // Python sends {} for none
  nodes.reason.replaceChildren(
    buildReason(hasReason ? reason : null, model.get("value").by_cells, (by_cells) =>
      change(model, { by_cells }),
    ),
  );
}

/**
 * @param {WidgetModel} model
 * @param {Partial<Choice>} patch
 */
function change(model, patch) {
  model.set("value", { ...model.get("value"), ...patch });
  model.save_changes();
}

/**
 * What a click on a candidate does.
 *
 * @param {WidgetModel} model
 * @param {RankingNodes} nodes
 * @returns {(index: number, asSecond: boolean) => void}
 */
function chooser(model, { compares }) {
  return (index, asSecond) =>
    change(model, asSecond || compares.checked ? { second: index } : { first: index });
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
  const { dropped } = model.get("value");
  if (cells) {
    figure.append(buildPartsPicture(cells, parts, partsLabel(parts.length, dropped), dropped));
  }
  return figure;
}

/**
 * @param {WidgetModel} model
 * @param {Lists} lists
 */
function buildStrip(model, { parts, cells, note }) {
  return buildPartsStrip(parts, cells, model.get("value").dropped, note, (dropped) =>
    change(model, { dropped }),
  );
}

/**
 * @param {Choice} choice
 * @param {Lists["rows"][number]} row
 * @param {number} number of the row
 * @param {(index: number, asSecond: boolean) => void} onChoose
 */
function buildListRow(choice, { title, items }, number, onChoose) {
  const buttons = items.map((candidate, k) => buildCandidate(candidate, k + 1, choice, onChoose));
  const attributes = { class: "diml-row", role: "group", "aria-label": title, "data-row": number };
  return createNode("div", attributes, createNode("b", {}, title), ...buttons);
}

/**
 * Show the traits of a widget `RankingView`.
 *
 * @param {RenderContext} context
 * @returns {() => void} stops listening
 */
export function renderRanking({ model, el }) {
  const nodes = buildFrame();
  el.replaceChildren(nodes.el);
  const redraw = () => keepFocus(nodes.el, () => drawLists(model, nodes));
  redraw();
  return listenToTraits(model, {
    lists: redraw,
    value: redraw,
    reason: () => keepFocus(nodes.el, () => drawReason(model, nodes)),
  });
}

export default { render: renderRanking };
