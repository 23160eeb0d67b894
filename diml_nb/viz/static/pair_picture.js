/** The two pictures of a pair: their cells, the flows between them, marks, and enlarged crops. */

import { createNode, range, setAttributes, viridis } from "./dom.js";
import {
  cellFlows,
  cellLabel,
  cellName,
  cellSentence,
  flowSentence,
  isOutside,
  PICTURE_LEFT,
  PICTURE_SIZE,
  sameCell,
} from "./pair_data.js";
import { droppedCells } from "./pair_state.js";

/**
 * @import {Box, Cell, Flow, Pair, Side} from "./pair_data.js"
 * @import {PairUi} from "./pair_state.js"
 */

/** @type {Side[]} */
const SIDES = ["a", "b"];

/* geometry */
const MAX_RIBBON_WIDTH = 7;

/**
 * The place of a cell in the coordinates of the drawing.
 *
 * @param {Pair} pair
 * @param {Cell} cell
 * @returns {Box}
 */
export function cellBox(pair, [side, n]) {
  const box = pair.boxes[side];
  const [rows, columns] = pair.grid[side];
  const width = box.width / columns;
  const height = box.height / rows;
  const x = box.x + width * (n % columns);
  const y = box.y + height * Math.floor(n / columns);
  return { x, y, width, height };
}

/**
 * The path of a flow's ribbon. Flows that end in different columns are bowed differently, so that
 * they do not lie on each other.
 *
 * @param {Pair} pair
 * @param {Flow} flow
 */
export function ribbonPath(pair, flow) {
  const [x, y] = boxCenter(cellBox(pair, ["a", flow.n]));
  const [endX, endY] = boxCenter(cellBox(pair, ["b", flow.m]));
  const reach = 0.35 * (endX - x);
  const bow = 0.3 * (x + endX - PICTURE_LEFT.b - PICTURE_SIZE);
  const controls = `${x + reach} ${y + bow} ${endX - reach} ${endY + bow}`;
  return `M${x} ${y}C${controls} ${endX} ${endY}`;
}

/** @param {Box} box */
function boxCenter({ x, y, width, height }) {
  return [x + width / 2, y + height / 2];
}

/**
 * A rectangle with both diagonals.
 *
 * @param {Box} box
 */
export function crossPath({ x, y, width: w, height: h }) {
  return `M${x} ${y}h${w}v${h}h${-w}zl${w} ${h}m${-w} 0l${w} ${-h}`;
}

/**
 * The window of a crop: a square with the cell in its middle, twice as large.
 *
 * @param {Box} box
 */
export function cropWindow(box) {
  const [x, y] = boxCenter(box);
  const half = Math.max(box.width, box.height);
  return `${x - half} ${y - half} ${2 * half} ${2 * half}`;
}

/* grids */
/**
 * Draw both pictures with their grids, and forget what was pointed at.
 *
 * @param {PairUi} ui
 */
export function drawPictures(ui) {
  const { parts, pair } = ui;
  const panels = SIDES.flatMap((side) => buildPanel(ui, side));
  parts.stage.replaceChildren(...panels, parts.marks, parts.flows);
  const { n, m } = pair.flows.at(0) ?? { n: 0, m: 0 };
  ui.tabStops = { a: n, b: m };
  ui.hovered = null;
  ui.focused = null;
}

/**
 * @param {PairUi} ui
 * @param {Side} side
 */
function buildPanel(ui, side) {
  const { src, label } = ui.pictures[side];
  const box = ui.pair.boxes[side];
  ui.parts[`label_${side}`].textContent = label;
  return [
    createNode("image", { ...box, href: src, preserveAspectRatio: "none" }),
    buildGrid(ui, side),
    createNode("rect", { ...box, class: `diml-border diml-${side}` }),
  ];
}

/**
 * @param {PairUi} ui
 * @param {Side} side
 */
function buildGrid(ui, side) {
  const [rowCount, columns] = ui.pair.grid[side];
  const cells = range(rowCount * columns).map((n) =>
    createNode("rect", {
      class: "diml-cell",
      role: "gridcell",
      "data-side": side,
      "data-n": n,
      ...cellBox(ui.pair, [side, n]),
    }),
  );
  ui.cells[side] = cells;
  const rows = range(rowCount).map((row) =>
    createNode("g", { role: "row" }, ...cells.slice(row * columns, (row + 1) * columns)),
  );
  const label = `cells of ${side.toUpperCase()}, ${ui.pictures[side].label}`;
  return createNode("g", { role: "grid", "aria-label": label }, ...rows);
}

/**
 * Bring the attributes of all cells up to date.
 *
 * @param {PairUi} ui
 */
export function describeCells(ui) {
  for (const side of SIDES) {
    ui.cells[side].forEach((node, n) => {
      setAttributes(node, cellAttributes(ui, [side, n]));
    });
  }
}

/**
 * A grid is one stop of the Tab key: only one of its cells has the tabindex 0.
 *
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function cellAttributes({ pair, view, tabStops }, cell) {
  const [side, n] = cell;
  const dropped = droppedCells(view, side).includes(n) ? ", dropped" : "";
  return {
    "aria-label": cellLabel(pair, cell) + dropped,
    "aria-selected": sameCell(view.locked, cell),
    "fill-opacity": view.overlay ? 0.75 * (1 - pair.mass[side][n] / pair.maxMass[side]) : 0,
    tabindex: tabStops[side] === n ? 0 : -1,
  };
}

/* ribbons */
/**
 * Draw the flows of the pair. The highlighted ones are drawn too, and the others fade.
 *
 * @param {PairUi} ui
 * @param {Flow[] | null} highlighted `null`: no flow is singled out
 */
function drawFlows({ pair, parts }, highlighted) {
  const chosen = highlighted ?? [];
  const others = pair.flows.filter((flow) => !chosen.some((other) => sameFlow(flow, other)));
  const otherKind = highlighted ? "diml-faded" : "diml-lit";
  const ribbons = [
    ...chosen.map((flow) => buildRibbon(pair, flow, "diml-lit")),
    ...others.map((flow) => buildRibbon(pair, flow, otherKind)),
  ];
  // What comes later lies above: the strongest come last.
  parts.flows.replaceChildren(...ribbons.reverse());
}

/**
 * @param {Flow} x
 * @param {Flow} y
 */
function sameFlow(x, y) {
  return x.n === y.n && x.m === y.m;
}

/**
 * As wide as its mass, coloured by its cosine, with a light border.
 *
 * @param {Pair} pair
 * @param {Flow} flow
 * @param {string} kind
 */
function buildRibbon(pair, flow, kind) {
  const d = ribbonPath(pair, flow);
  const width = (MAX_RIBBON_WIDTH * flow.mass) / pair.maxFlow;
  const haloWidth = width + Math.min(width, 1.6);
  return createNode(
    "g",
    { class: kind },
    createNode("path", { d, class: "diml-halo", "stroke-width": haloWidth }),
    createNode("path", {
      d,
      class: "diml-flow",
      "stroke-width": width,
      stroke: viridis(flow.cosine),
      "data-n": flow.n,
      "data-m": flow.m,
    }),
  );
}

/* marks */
/**
 * Mark the dropped cells, the partners of the chosen cell, and the chosen cell itself.
 *
 * @param {PairUi} ui
 * @param {Cell | null} chosen
 * @param {Cell[]} ends of the highlighted flows
 */
function drawMarks({ pair, view, parts }, chosen, ends) {
  const dropped = SIDES.flatMap((side) =>
    droppedCells(view, side).map((n) => /** @type {Cell} */ ([side, n])),
  );
  const crosses = dropped
    .filter((cell) => !isOutside(pair, cell))
    .map((cell) => createNode("path", { class: "diml-cross", d: crossPath(cellBox(pair, cell)) }));
  const partners = ends
    .filter((cell) => !sameCell(cell, chosen))
    .map((cell) => buildMark(pair, cell, "diml-partner"));
  const kind = view.locked ? "diml-chosen diml-locked" : "diml-chosen";
  const chosenMark = chosen ? [buildMark(pair, chosen, kind)] : [];
  parts.marks.replaceChildren(...crosses, ...partners, ...chosenMark);
}

/**
 * @param {Pair} pair
 * @param {Cell} cell
 * @param {string} kind
 */
function buildMark(pair, cell, kind) {
  return createNode("rect", { ...cellBox(pair, cell), class: `diml-mark ${kind}` });
}

/* crops */
/**
 * An enlarged cell: the picture again through a smaller window. All crops have one size, so that
 * nothing moves on the page while the pointer does.
 *
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function buildCrop({ pair, parts }, cell) {
  const [side] = cell;
  const name = cellName(pair, cell);
  const box = cellBox(pair, cell);
  const picture = parts.stage.querySelectorAll("image")[SIDES.indexOf(side)].cloneNode();
  const frame = createNode("rect", { ...box, class: `diml-mark diml-frame diml-${side}` });
  const enlarged = createNode(
    "svg",
    { viewBox: cropWindow(box), role: "img", "aria-label": `enlarged: ${name}` },
    picture,
    frame,
  );
  return createNode("figure", { class: "diml-crop" }, enlarged, createNode("figcaption", {}, name));
}

/* highlight */
/**
 * Draw all that follows the pointer and the focus. A row of the table comes before a locked cell,
 * and that before the cell under the pointer or with the focus.
 *
 * @param {PairUi} ui
 */
export function highlight(ui) {
  const { pair, view, parts, pointedFlow } = ui;
  const chosen = pointedFlow ? null : view.locked || ui.hovered || ui.focused;
  const highlighted = highlightedFlows(pair, chosen, pointedFlow);
  const shown = (highlighted ?? pair.flows).at(0);
  drawFlows(ui, highlighted);
  drawMarks(ui, chosen, (highlighted ?? []).flatMap(flowEnds));
  // A cell without flows is still enlarged.
  const chosenCells = chosen ? [chosen] : [];
  const crops = shown ? flowEnds(shown) : chosenCells;
  parts.crops.replaceChildren(...crops.map((cell) => buildCrop(ui, cell)));
  parts.says.textContent = answerText(pair, chosen, pointedFlow);
  parts.state.textContent = view.locked
    ? `locked on ${cellName(pair, view.locked)}: Escape unlocks`
    : "";
  ui.version += 1;
  ui.root.dataset.version = String(ui.version);
}

/**
 * @param {Pair} pair
 * @param {Cell | null} chosen
 * @param {Flow | null} pointedFlow
 */
function highlightedFlows(pair, chosen, pointedFlow) {
  if (pointedFlow) return [pointedFlow];
  return chosen ? cellFlows(pair, chosen) : null;
}

/**
 * @param {Flow} flow
 * @returns {Cell[]}
 */
function flowEnds(flow) {
  return [
    ["a", flow.n],
    ["b", flow.m],
  ];
}

/**
 * The sentence about what is pointed at, else about the strongest flow of the pair.
 *
 * @param {Pair} pair
 * @param {Cell | null} chosen
 * @param {Flow | null} pointedFlow
 */
export function answerText(pair, chosen, pointedFlow) {
  if (pointedFlow) return flowSentence(pair, pointedFlow);
  if (chosen) return cellSentence(pair, chosen);
  const strongest = pair.flows.at(0);
  return strongest ? `strongest flow ${flowSentence(pair, strongest)}` : "";
}
