/** The two pictures of a pair: their cells, the flows between them, and what is highlighted. */

import { createNode, range, setAttributes, viridis } from "./dom.js";
import {
  cellFlows,
  cellLabel,
  cellName,
  cellSentence,
  flowSentence,
  SIDES,
  sameCell,
} from "./pair_data.js";
import { cellBox, faceBox, ribbonPath } from "./pair_geometry.js";
import { buildCrop, drawCellMarks, drawPartMarks } from "./pair_marks.js";
import { cellPartLabel, partFlows, partName, partSentence } from "./pair_parts.js";
import { chosenPart, droppedCells, partOf } from "./pair_state.js";

/**
 * @import {Cell, Flow, Pair, Side} from "./pair_data.js"
 * @import {PairUi, ViewState} from "./pair_state.js"
 */

/* grids */
/**
 * Draw both pictures with their grids, and forget what was pointed at.
 *
 * @param {PairUi} ui
 */
export function drawPictures(ui) {
  const { nodes, pair } = ui;
  const panels = SIDES.flatMap((side) => buildPanel(ui, side));
  nodes.stage.replaceChildren(...panels, nodes.marks, nodes.flows, nodes.numbers);
  nodes.parts.replaceChildren(); // the faces in its rows are of the old pictures
  const { n, m } = pair.flows.at(0) ?? { n: 0, m: 0 };
  ui.tabStops = { a: n, b: m };
  ui.hovered = null;
  ui.focused = null;
  ui.hoveredPart = null;
  ui.focusedPart = null;
}

/**
 * @param {PairUi} ui
 * @param {Side} side
 */
function buildPanel(ui, side) {
  const { src, label } = ui.pictures[side];
  const box = ui.pair.boxes[side];
  ui.nodes[`label_${side}`].textContent = label;
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
  return createNode(
    "g",
    { role: "grid", "aria-label": label, "aria-multiselectable": true },
    ...rows,
  );
}

/**
 * Bring the attributes of all cells up to date. A grid is one stop of the Tab key: only one of its
 * cells has the tabindex 0.
 *
 * @param {PairUi} ui
 */
export function describeCells(ui) {
  for (const side of SIDES) {
    ui.cells[side].forEach((node, n) => {
      const cell = /** @type {Cell} */ ([side, n]);
      const own = ui.view.mode === "parts" ? partAttributes(ui, cell) : flowAttributes(ui, cell);
      setAttributes(node, { ...own, tabindex: ui.tabStops[side] === n ? 0 : -1 });
    });
  }
}

/**
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function flowAttributes({ pair, view }, cell) {
  const [side, n] = cell;
  return {
    "aria-label": cellLabel(pair, cell) + droppedText(view, cell),
    "aria-selected": sameCell(view.locked, cell),
    "fill-opacity": view.overlay ? 0.75 * (1 - pair.mass[side][n] / pair.maxMass[side]) : 0,
    style: "",
  };
}

/**
 * A cell has the colour of its part, unless that is left out.
 *
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function partAttributes({ pair, view }, cell) {
  const [side, n] = cell;
  const k = partOf(pair, cell);
  const isTinted = k !== null && !view.left_out.includes(k);
  return {
    "aria-label": cellPartLabel(pair, cell) + droppedText(view, cell),
    "aria-selected": k !== null && k === view.part,
    "fill-opacity": isTinted ? pair.tint[side][n] : 0,
    style: isTinted ? `--tint:${pair.parts.list[k].color}` : "",
  };
}

/**
 * @param {ViewState} view
 * @param {Cell} cell
 */
function droppedText(view, [side, n]) {
  return droppedCells(view, side).includes(n) ? ", dropped" : "";
}

/* ribbons */
const MAX_RIBBON_WIDTH = 7;

/**
 * Draw some flows, and others faded behind them.
 *
 * @param {PairUi} ui
 * @param {Flow[]} lit
 * @param {Flow[]} faded
 */
function drawFlows({ pair, nodes }, lit, faded) {
  const others = faded.filter((flow) => !lit.some((other) => sameFlow(flow, other)));
  const ribbons = [
    ...lit.map((flow) => buildRibbon(pair, flow, "diml-lit")),
    ...others.map((flow) => buildRibbon(pair, flow, "diml-faded")),
  ];
  // What comes later lies above: the strongest come last.
  nodes.flows.replaceChildren(...ribbons.reverse());
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

/* highlight */
/**
 * Draw all that follows the pointer and the focus.
 *
 * @param {PairUi} ui
 */
export function highlight(ui) {
  if (ui.view.mode === "parts") highlightPart(ui);
  else highlightCell(ui);
  ui.version += 1;
  ui.root.dataset.version = String(ui.version);
}

/**
 * The chosen part with its flows and crops; where none is chosen, the crops of the largest.
 *
 * @param {PairUi} ui
 */
function highlightPart(ui) {
  const { pair, root, view, nodes } = ui;
  const chosen = chosenPart(ui);
  root.classList.toggle("diml-no-flows", chosen === null);
  drawFlows(ui, chosen === null ? [] : partFlows(pair, chosen), []);
  drawPartMarks(ui, chosen);
  const shown = chosen ?? 0;
  const crops = SIDES.map((side) => {
    const box = faceBox(pair.boxes[side], pair.parts.list[shown].face[side]);
    return buildCrop(ui, side, box, `part ${partName(shown)} in ${side.toUpperCase()}`);
  });
  nodes.crops.replaceChildren(...crops);
  nodes.says.textContent = chosen === null ? pair.parts.summary : partSentence(pair, chosen);
  const locked = view.part === null ? "" : `part ${partName(view.part)}`;
  nodes.state.replaceChildren(...lockWords(locked));
}

/**
 * A row of the table comes before a locked cell, and that before the cell under the pointer or
 * with the focus.
 *
 * @param {PairUi} ui
 */
function highlightCell(ui) {
  const { pair, view, nodes, pointedFlow } = ui;
  ui.root.classList.remove("diml-no-flows");
  const chosen = pointedFlow ? null : view.locked || ui.hovered || ui.focused;
  const highlighted = highlightedFlows(pair, chosen, pointedFlow);
  const shown = (highlighted ?? pair.flows).at(0);
  if (highlighted) drawFlows(ui, highlighted, pair.flows);
  else drawFlows(ui, pair.flows, []);
  drawCellMarks(ui, chosen, (highlighted ?? []).flatMap(flowEnds));
  // A cell without flows is still enlarged.
  const chosenCells = chosen ? [chosen] : [];
  const crops = shown ? flowEnds(shown) : chosenCells;
  nodes.crops.replaceChildren(...crops.map((cell) => buildCellCrop(ui, cell)));
  nodes.says.textContent = answerText(pair, chosen, pointedFlow);
  const locked = view.locked ? cellName(pair, view.locked) : "";
  nodes.state.replaceChildren(...lockWords(locked));
}

/**
 * What is locked, and how to unlock it by keys or by fingers: the style sheet shows one of both.
 *
 * @param {string} name
 */
function lockWords(name) {
  if (name === "") return [];
  return [
    `locked on ${name}: `,
    createNode("span", { class: "diml-keys" }, "Escape unlocks"),
    createNode("span", { class: "diml-fingers" }, "another tap unlocks"),
  ];
}

/**
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function buildCellCrop(ui, cell) {
  return buildCrop(ui, cell[0], cellBox(ui.pair, cell), cellName(ui.pair, cell));
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
