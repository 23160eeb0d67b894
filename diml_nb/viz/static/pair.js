/** The view of a pair: its page, its drawing, and the widget that shows it in a notebook. */

import { createNode, formatScore, listenToTraits, range, viridis } from "./dom.js";
import { isOutside, pictureBoxes, readPair, sameGrids } from "./pair_data.js";
import { addListeners } from "./pair_events.js";
import { describeCells, drawPictures, highlight } from "./pair_picture.js";
import { DEFAULT_VIEW } from "./pair_state.js";
import { buildTableHeader, drawComparison, drawTable, drawWaterfall, toCsv } from "./pair_sums.js";

/**
 * @import {AttributeValue, RenderContext} from "./dom.js"
 * @import {Flow, Pair, PairPayload} from "./pair_data.js"
 * @import {PairUi, ViewState} from "./pair_state.js"
 *
 * @typedef {object} PairUpdate What changes; the rest stays.
 * @property {PairUi["pictures"]} [pictures]
 * @property {PairPayload} [data]
 * @property {Partial<ViewState>} [view]
 *
 * @typedef {object} PairView
 * @property {() => string} csv The flows of the table.
 * @property {(update: PairUpdate) => void} update Draw; nothing until pictures and data are there.
 */

/* layout */
/**
 * Create an element of the class `diml-NAME` and note it in `ui.parts`.
 *
 * @param {PairUi} ui
 * @param {string} name
 * @param {string} [tag]
 * @param {Record<string, AttributeValue>} [attributes]
 * @param {...(Node | string)} children
 */
function createPart(ui, name, tag = "div", attributes = {}, ...children) {
  const classes = attributes.class ? `diml-${name} ${attributes.class}` : `diml-${name}`;
  const node = createNode(tag, { ...attributes, class: classes }, ...children);
  ui.parts[name] = node;
  return node;
}

/**
 * @param {PairUi} ui
 * @param {string} name
 * @param {string} text
 */
function createButton(ui, name, text) {
  return createPart(ui, name, "button", { type: "button", class: "diml-button" }, text);
}

/**
 * @param {string} name
 * @param {...Node} children
 */
function createBox(name, ...children) {
  return createNode("div", { class: `diml-${name}` }, ...children);
}

/**
 * Pictures and answer at the left, sum and table at the right; on a narrow page below each other.
 *
 * @param {PairUi} ui
 */
function buildLayout(ui) {
  ui.parts.label_a = createNode("span", { class: "diml-label diml-a" });
  ui.parts.label_b = createNode("span", { class: "diml-label diml-b" });
  createPart(ui, "marks", "g");
  createPart(ui, "flows", "g", { "aria-hidden": true });
  const left = createBox(
    "left",
    createPart(ui, "score"),
    createBox("labels", ui.parts.label_a, ui.parts.label_b),
    createPart(ui, "stage", "svg", { viewBox: "-4 -4 572 238" }),
    buildColorScale(ui),
    createBox("tools", createButton(ui, "overlay", "show masses")),
    buildAnswer(ui),
    createPart(ui, "text", "p"),
    createPart(ui, "notes"),
    createPart(ui, "beside"),
  );
  ui.parts.left = left;
  ui.parts.right = createBox(
    "right",
    createNode("h4", {}, "The score as a sum"),
    createPart(ui, "waterfall"),
    createPart(ui, "check", "p", { class: "diml-small" }),
    buildTable(ui),
    createPart(
      ui,
      "export",
      "div",
      { class: "diml-tools" },
      createButton(ui, "copy", "copy as CSV"),
    ),
  );
  ui.root.classList.add("diml-pair");
  // JupyterLab would take "x" as its command to cut the cell of the notebook.
  ui.root.setAttribute("data-lm-suppress-shortcuts", "true");
}

/** @param {PairUi} ui */
function buildColorScale(ui) {
  const colors = range(17).map((k) => viridis(k / 16));
  const style = `background:linear-gradient(90deg,${colors})`;
  const scale = createBox("scale");
  scale.append(
    "cosine of the two cells 0",
    createNode("i", { style }),
    "1",
    createPart(ui, "widest", "span"),
  );
  return scale;
}

/** @param {PairUi} ui */
function buildAnswer(ui) {
  const words = createBox(
    "words",
    createPart(ui, "says", "p", { "aria-live": "polite" }),
    createPart(ui, "state", "p", { "aria-live": "polite" }),
    createPart(ui, "hint", "p", { class: "diml-small" }),
  );
  return createBox("answer", createPart(ui, "crops"), words);
}

/** @param {PairUi} ui */
function buildTable(ui) {
  return createNode(
    "table",
    { class: "diml-table" },
    createPart(ui, "caption", "caption"),
    createPart(ui, "head", "thead"),
    createPart(ui, "body", "tbody"),
  );
}

/* view */
/**
 * Draw all that depends on the numbers or on the state of the view.
 *
 * @param {PairUi} ui
 */
function draw(ui) {
  const { pair, view, parts } = ui;
  parts.score.textContent = scoreText(pair);
  parts.text.textContent = pair.text;
  parts.notes.replaceChildren(...pair.notes.map((note) => createNode("p", {}, note)));
  parts.widest.textContent = scaleText(pair, view.overlay);
  parts.overlay.setAttribute("aria-pressed", String(view.overlay));
  parts.hint.textContent = hintText(pair.live);
  describeCells(ui);
  drawWaterfall(ui);
  drawComparison(ui);
  drawTable(ui);
  highlight(ui);
}

/** @param {Pair} pair */
export function scoreText({ similarity, cosine }) {
  const score = formatScore(cosine + similarity);
  return `similarity S = ${formatScore(similarity)}, score = cosine + S = ${score}`;
}

/**
 * @param {Pair} pair
 * @param {boolean} overlay
 */
export function scaleText({ maxFlow, maxMass }, overlay) {
  const widest = `widest ribbon: mass ${formatScore(maxFlow)}`;
  if (!overlay) return widest;
  return `${widest}; brightest cells: ${formatScore(maxMass.a)} and ${formatScore(maxMass.b)}`;
}

/** @param {boolean} live */
export function hintText(live) {
  const drop = live ? "; x or shift-click drops a cell" : "";
  return (
    `Point at a cell, or use Tab and the arrow keys; click or Enter locks${drop}. ` +
    "A cell is where the network wrote its answer, not all that it saw."
  );
}

/**
 * Show a pair in an element. There are no globals and no ids, so that a page can hold many views.
 *
 * @param {HTMLElement} root
 * @param {(view: ViewState) => void} onChange gets a fresh object when the reader changes the view
 * @returns {PairView}
 */
export function createPairView(root, onChange) {
  const ui = /** @type {PairUi} pair and pictures come with the first update */ ({
    root,
    parts: {},
    cells: {},
    headers: {},
    rows: /** @type {Flow[]} */ ([]),
    view: DEFAULT_VIEW,
    version: 0,
  });
  ui.change = (patch) => {
    ui.view = { ...ui.view, ...patch };
    draw(ui);
    onChange({ ...ui.view });
  };
  buildLayout(ui);
  buildTableHeader(ui);
  addListeners(ui);
  return { csv: () => toCsv(ui.rows), update: (update) => updateView(ui, update) };
}

/**
 * @param {PairUi} ui
 * @param {PairUpdate} update
 */
function updateView(ui, { pictures, data, view }) {
  const old = ui.pair;
  ui.pointedFlow = null;
  ui.view = { ...ui.view, ...view };
  if (pictures) ui.pictures = pictures;
  if (data) ui.pair = readPair(data);
  if (!ui.pair || !ui.pictures) return;
  ui.pair.boxes = pictureBoxes(ui.pictures);
  const { locked } = ui.view;
  if (locked && isOutside(ui.pair, locked)) ui.view.locked = null;
  if (pictures || !old || !sameGrids(old, ui.pair)) {
    drawPictures(ui);
    ui.root.replaceChildren(ui.parts.left, ui.parts.right);
  }
  draw(ui);
}

/* widget */
/**
 * Show the traits of a widget `PairView`, and tell it what the reader does.
 *
 * @param {RenderContext} context
 * @returns {() => void} stops listening
 */
function render({ model, el }) {
  const root = el.appendChild(document.createElement("div"));
  const view = createPairView(root, (value) => {
    model.set("value", value);
    model.save_changes();
  });
  view.update({
    pictures: model.get("pictures"),
    data: model.get("data"),
    view: model.get("value"),
  });
  return listenToTraits(model, {
    pictures: () => view.update({ pictures: model.get("pictures") }),
    data: () => view.update({ data: model.get("data") }),
    value: () => view.update({ view: model.get("value") }),
  });
}

export default { render };
