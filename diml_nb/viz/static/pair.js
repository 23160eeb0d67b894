/** The view of a pair: its page, its drawing, and the widget that shows it in a notebook. */

import { createNode, formatScore, listenToTraits, range, viridis } from "./dom.js";
import { pictureBoxes, readPair, sameGrids } from "./pair_data.js";
import { addListeners } from "./pair_events.js";
import { describePartRows, drawPartRows } from "./pair_part_list.js";
import { describeCells, drawPictures, highlight } from "./pair_picture.js";
import { DEFAULT_VIEW, droppedCells, fitView } from "./pair_state.js";
import { buildTableHeader, drawComparison, drawTable, drawWaterfall, toCsv } from "./pair_sums.js";

/**
 * @import {AttributeValue, RenderContext} from "./dom.js"
 * @import {Flow, Pair, PairPayload} from "./pair_data.js"
 * @import {Mode, PairUi, ViewState} from "./pair_state.js"
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
 * Create an element of the class `diml-NAME` and note it in `ui.nodes`.
 *
 * @param {PairUi} ui
 * @param {string} name
 * @param {string} [tag]
 * @param {Record<string, AttributeValue>} [attributes]
 * @param {...(Node | string)} children
 */
function addNode(ui, name, tag = "div", attributes = {}, ...children) {
  const classes = attributes.class ? `diml-${name} ${attributes.class}` : `diml-${name}`;
  const node = createNode(tag, { ...attributes, class: classes }, ...children);
  ui.nodes[name] = node;
  return node;
}

/**
 * @param {PairUi} ui
 * @param {string} name
 * @param {string} text
 */
function createButton(ui, name, text) {
  return addNode(ui, name, "button", { type: "button", class: "diml-button" }, text);
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
  ui.nodes.label_a = createNode("span", { class: "diml-label diml-a" });
  ui.nodes.label_b = createNode("span", { class: "diml-label diml-b" });
  addNode(ui, "marks", "g", { "aria-hidden": true });
  addNode(ui, "flows", "g", { "aria-hidden": true });
  addNode(ui, "numbers", "g", { "aria-hidden": true });
  ui.nodes.left = createBox(
    "left",
    addNode(ui, "score", "div", { role: "status" }),
    buildModes(ui),
    createBox("labels", ui.nodes.label_a, ui.nodes.label_b),
    addNode(ui, "stage", "svg", { viewBox: "-4 -4 572 238" }),
    buildColorScale(ui),
    createBox(
      "tools",
      createButton(ui, "overlay", "show masses"),
      createButton(ui, "take_back", ""),
    ),
    buildAnswer(ui),
    addNode(ui, "text", "p"),
    addNode(ui, "notes"),
    addNode(ui, "beside"),
  );
  ui.nodes.right = createBox("right", buildPartPanel(ui), buildFlowPanel(ui));
  ui.root.classList.add("diml-pair");
  // JupyterLab would take "x" as its command to cut the cell of the notebook.
  ui.root.setAttribute("data-lm-suppress-shortcuts", "true");
}

/**
 * The switch between the two views of the same pictures.
 *
 * @param {PairUi} ui
 */
function buildModes(ui) {
  return createNode(
    "div",
    { class: "diml-tools", role: "group", "aria-label": "show the pair by" },
    createButton(ui, "by_parts", "parts"),
    createButton(ui, "by_flows", "flows"),
  );
}

/** @param {PairUi} ui */
function buildPartPanel(ui) {
  return addNode(
    ui,
    "part_panel",
    "div",
    {},
    createNode("h2", {}, "The similarity as a sum of parts"),
    addNode(ui, "note", "p"),
    addNode(ui, "parts", "ol"),
    addNode(ui, "rest", "p"),
    addNode(ui, "part_sum", "p", { class: "diml-small" }),
    addNode(ui, "left_out", "p", { "aria-live": "polite" }),
  );
}

/** @param {PairUi} ui */
function buildFlowPanel(ui) {
  return addNode(
    ui,
    "flow_panel",
    "div",
    {},
    createNode("h2", {}, "The score as a sum"),
    addNode(ui, "waterfall"),
    addNode(ui, "check", "p", { class: "diml-small" }),
    buildTable(ui),
    addNode(ui, "export", "div", { class: "diml-tools" }, createButton(ui, "copy", "copy as CSV")),
  );
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
    addNode(ui, "widest", "span"),
  );
  return scale;
}

/** @param {PairUi} ui */
function buildAnswer(ui) {
  const words = createBox(
    "words",
    addNode(ui, "says", "p", { "aria-live": "polite" }),
    addNode(ui, "state", "p", { "aria-live": "polite" }),
    createButton(ui, "drop_cell", ""),
    addNode(ui, "hint", "p", { class: "diml-small" }),
  );
  return createBox("answer", addNode(ui, "crops"), words);
}

/** @param {PairUi} ui */
function buildTable(ui) {
  const table = createNode(
    "table",
    { class: "diml-table" },
    addNode(ui, "caption", "caption"),
    addNode(ui, "head", "thead"),
    addNode(ui, "body", "tbody"),
  );
  return createBox("wide", table);
}

/* view */
/**
 * Draw all that depends on the numbers or on the state of the view.
 *
 * @param {PairUi} ui
 */
function draw(ui) {
  const { pair, view, nodes } = ui;
  drawModes(ui);
  const score = scoreText(pair);
  if (nodes.score.textContent !== score) nodes.score.textContent = score; // said once
  nodes.text.textContent = pair.text;
  nodes.notes.replaceChildren(...pair.notes.map((note) => createNode("p", {}, note)));
  nodes.widest.textContent = scaleText(pair, view.overlay);
  nodes.overlay.setAttribute("aria-pressed", String(view.overlay));
  nodes.hint.replaceChildren(
    createNode("span", { class: "diml-keys" }, hintText(pair.live, view.mode)),
    createNode("span", { class: "diml-fingers" }, touchHintText(pair.live, view.mode)),
    " A cell is where the network wrote its answer, not all that it saw.",
  );
  nodes.drop_cell.textContent = dropCellText(view);
  nodes.drop_cell.toggleAttribute("hidden", !(pair.live && view.mode === "flows" && view.locked));
  nodes.take_back.textContent = takeBackText(view);
  describeCells(ui);
  describePartRows(ui);
  drawWaterfall(ui);
  drawComparison(ui);
  drawTable(ui);
  highlight(ui);
}

/**
 * Only what belongs to the chosen view of the pair is shown.
 *
 * @param {PairUi} ui
 */
function drawModes({ root, view, nodes }) {
  const isByParts = view.mode === "parts";
  root.classList.toggle("diml-by-parts", isByParts);
  nodes.by_parts.setAttribute("aria-pressed", String(isByParts));
  nodes.by_flows.setAttribute("aria-pressed", String(!isByParts));
  nodes.part_panel.toggleAttribute("hidden", !isByParts);
  for (const name of ["flow_panel", "text", "overlay"]) {
    nodes[name].toggleAttribute("hidden", isByParts);
  }
  nodes.take_back.toggleAttribute("hidden", takeBackText(view) === "");
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

/**
 * @param {boolean} live
 * @param {Mode} mode
 */
export function hintText(live, mode) {
  const target = mode === "parts" ? "part" : "cell";
  const drop = live ? `; x or shift-click drops a ${target}` : leaveOutHint(mode);
  return `Point at a ${target}, or use Tab and the arrow keys; click or Enter locks${drop}.`;
}

/** @param {Mode} mode */
function leaveOutHint(mode) {
  return mode === "parts" ? "; x or shift-click leaves it out of the sum" : "";
}

/**
 * The hint where fingers point: the style sheet shows one of the two.
 *
 * @param {boolean} live
 * @param {Mode} mode
 */
export function touchHintText(live, mode) {
  if (mode === "parts") return "A tap on a part locks it, another one unlocks it.";
  const drop = live ? "; a locked cell can be dropped" : "";
  return `A tap on a cell locks it, another one unlocks it${drop}.`;
}

/**
 * What the button beside a locked cell does.
 *
 * @param {ViewState} view
 */
export function dropCellText(view) {
  const { locked } = view;
  const isDropped = locked && droppedCells(view, locked[0]).includes(locked[1]);
  return isDropped ? "take this cell back" : "drop this cell";
}

/** @param {ViewState} view */
export function takeBackText({ dropped_a, dropped_b }) {
  const count = dropped_a.length + dropped_b.length;
  if (count === 0) return "";
  return count === 1 ? "take back 1 dropped cell" : `take back ${count} dropped cells`;
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
    nodes: {},
    cells: {},
    headers: {},
    rows: /** @type {Flow[]} */ ([]),
    view: DEFAULT_VIEW,
    hoveredPart: null,
    focusedPart: null,
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
 * With other numbers for the same pair the number of a part stands for other cells.
 *
 * @param {Pair | undefined} old
 * @param {PairPayload | undefined} data
 * @returns {Partial<ViewState>}
 */
function forgottenPart(old, data) {
  return old && data ? { part: null } : {};
}

/**
 * A row that the list no longer has is neither under the pointer nor has it the focus.
 *
 * @param {PairUi} ui
 */
function forgetMissingRows(ui) {
  const fits = (/** @type {number | null} */ k) => k !== null && k < ui.pair.parts.list.length;
  if (!fits(ui.hoveredPart)) ui.hoveredPart = null;
  if (!fits(ui.focusedPart)) ui.focusedPart = null;
}

/**
 * @param {PairUi} ui
 * @param {PairUpdate} update
 */
function updateView(ui, { pictures, data, view }) {
  const old = ui.pair;
  ui.pointedFlow = null;
  ui.view = { ...ui.view, ...forgottenPart(old, data), ...view };
  if (pictures) ui.pictures = pictures;
  if (data) ui.pair = readPair(data);
  if (!ui.pair || !ui.pictures) return;
  ui.pair.boxes = pictureBoxes(ui.pictures);
  ui.view = fitView(ui.view, ui.pair);
  forgetMissingRows(ui);
  if (pictures || !old || !sameGrids(old, ui.pair)) {
    drawPictures(ui);
    ui.root.replaceChildren(ui.nodes.left, ui.nodes.right);
  }
  if (pictures || data) drawPartRows(ui);
  draw(ui);
}

/* widget */
/**
 * Show the traits of a widget `PairView`, and tell it what the reader does.
 *
 * @param {RenderContext} context
 * @returns {() => void} stops listening
 */
function renderPair({ model, el }) {
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

export default { render: renderPair };
