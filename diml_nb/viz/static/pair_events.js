/** Mouse and keyboard on the view of a pair. */

import { setAttributes } from "./dom.js";
import { sameCell } from "./pair_data.js";
import { highlight } from "./pair_picture.js";
import { dropPart, moveCell, partOf, toggleDropped, togglePart } from "./pair_state.js";
import { copyCsv } from "./pair_sums.js";

/**
 * @import {Cell, Flow, Side} from "./pair_data.js"
 * @import {PairUi, SortKey} from "./pair_state.js"
 */

/* targets */
/**
 * The cell that an event happened on.
 *
 * @param {Event} event
 * @returns {Cell | null}
 */
function eventCell(event) {
  const node = /** @type {SVGElement | null} */ (eventTarget(event).closest(".diml-cell"));
  return node && [/** @type {Side} */ (node.dataset.side), Number(node.dataset.n)];
}

/** @param {Event} event */
function eventTarget(event) {
  return /** @type {HTMLElement | SVGElement} */ (event.target);
}

/**
 * The part whose row an event happened on: that of its button, or of the button that drops it.
 *
 * @param {Event} event
 */
function eventPart(event) {
  const row = eventTarget(event).closest(".diml-part-row");
  const button = /** @type {HTMLElement | null} */ (row?.querySelector(".diml-part") ?? null);
  return button && Number(button.dataset.part);
}

/**
 * Lock a cell or its part, or unlock it.
 *
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function toggleLock(ui, cell) {
  const k = partOf(ui.pair, cell);
  if (ui.view.mode === "flows") {
    ui.change({ locked: sameCell(cell, ui.view.locked) ? null : cell });
  } else if (k !== null) {
    ui.change(togglePart(ui.view, k));
  }
}

/**
 * A part can always be left out of the sum, a cell only where somebody computes the pair again.
 *
 * @param {PairUi} ui
 */
function canDrop({ pair, view }) {
  return pair.live || view.mode === "parts";
}

/**
 * Drop a cell or its part, or take it back.
 *
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function toggleDrop(ui, cell) {
  const k = partOf(ui.pair, cell);
  if (ui.view.mode === "parts" && k !== null) ui.change(dropPart(ui.view, ui.pair, k));
  else if (ui.pair.live) ui.change(toggleDropped(ui.view, cell));
}

/**
 * Give the focus to a cell, and make it the stop of the Tab key in its grid.
 *
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function focusCell({ cells, tabStops }, [side, n]) {
  setAttributes(cells[side][tabStops[side]], { tabindex: -1 });
  setAttributes(cells[side][n], { tabindex: 0 });
  tabStops[side] = n;
  cells[side][n].focus();
}

/* keyboard */
/**
 * @param {PairUi} ui
 * @param {KeyboardEvent} event
 */
function handleKey(ui, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const k = eventPart(event);
  const act =
    k === null ? keyAction(ui, eventCell(event), event.key) : partKeyAction(ui, k, event.key);
  if (!act) return;
  act();
  event.preventDefault();
  event.stopPropagation();
}

/**
 * What a key does on a cell, or outside of the grids; `null` for nothing.
 *
 * @param {PairUi} ui
 * @param {Cell | null} cell
 * @param {string} key
 * @returns {(() => void) | null}
 */
function keyAction(ui, cell, key) {
  if (key === "Escape") return unlockAction(ui);
  if (!cell) return null;
  const next = moveCell(ui.pair, cell, key);
  if (next) return () => focusCell(ui, next);
  if (key === "Enter" || key === " ") return () => toggleLock(ui, cell);
  if (isDropKey(key) && canDrop(ui)) return () => toggleDrop(ui, cell);
  return null;
}

/**
 * What a key does on a row of the list; its buttons answer to Enter and Space of themselves.
 *
 * @param {PairUi} ui
 * @param {number} k
 * @param {string} key
 */
function partKeyAction(ui, k, key) {
  if (key === "Escape") return unlockAction(ui);
  return isDropKey(key) ? () => ui.change(dropPart(ui.view, ui.pair, k)) : null;
}

/**
 * @param {PairUi} ui
 * @returns {(() => void) | null}
 */
function unlockAction(ui) {
  const { mode, locked, part } = ui.view;
  if (mode === "parts") return part === null ? null : () => ui.change({ part: null });
  return locked ? () => ui.change({ locked: null }) : null;
}

/** @param {string} key */
function isDropKey(key) {
  return key === "x" || key === "Delete";
}

/* mouse */
/**
 * @param {PairUi} ui
 * @param {MouseEvent} event
 */
function handleClick(ui, event) {
  const cell = eventCell(event);
  if (!cell) return;
  focusCell(ui, cell);
  if (event.shiftKey && canDrop(ui)) toggleDrop(ui, cell);
  else toggleLock(ui, cell);
}

/**
 * @param {PairUi} ui
 * @param {Event} event
 */
function handleListClick(ui, event) {
  const k = eventPart(event);
  if (k === null) return;
  const isDrop = eventTarget(event).closest(".diml-drop") !== null;
  ui.change(isDrop ? dropPart(ui.view, ui.pair, k) : togglePart(ui.view, k));
}

/**
 * @param {PairUi} ui
 * @param {"hoveredPart" | "focusedPart"} name
 * @param {number | null} k
 */
function pointAtPart(ui, name, k) {
  if (ui[name] === k) return;
  ui[name] = k;
  highlight(ui);
}

/**
 * @param {PairUi} ui
 * @param {"hovered" | "focused"} name
 * @param {Cell | null} cell
 */
function pointAt(ui, name, cell) {
  if (sameCell(ui[name], cell)) return;
  ui[name] = cell;
  highlight(ui);
}

/**
 * @param {PairUi} ui
 * @param {Flow | null} flow
 */
function pointAtFlow(ui, flow) {
  ui.pointedFlow = flow;
  highlight(ui);
}

/**
 * @param {PairUi} ui
 * @param {Event} event
 */
function handleRowHover(ui, event) {
  const row = /** @type {HTMLTableRowElement} */ (eventTarget(event).closest("tr"));
  pointAtFlow(ui, ui.rows[row.rowIndex - 1]);
}

/**
 * @param {PairUi} ui
 * @param {Event} event
 */
function handleSort(ui, event) {
  const { sort } = eventTarget(event).dataset;
  if (sort) ui.change({ sort: /** @type {SortKey} */ (sort) });
}

/**
 * A click also moves the focus, but only a focus that the keyboard has moved counts as pointing.
 *
 * @param {Event} event
 */
function isKeyboardFocus(event) {
  return eventTarget(event).matches(":focus-visible");
}

/**
 * @param {PairUi} ui
 * @param {Event} event
 */
function handleFocus(ui, event) {
  const isPointing = isKeyboardFocus(event);
  pointAt(ui, "focused", isPointing ? eventCell(event) : null);
  pointAtPart(ui, "focusedPart", isPointing ? eventPart(event) : null);
}

/* listeners */
/**
 * The root listens for focus and keys: a listener on the SVG would make it a stop of the Tab key.
 *
 * @param {PairUi} ui
 */
export function addListeners(ui) {
  const { root, nodes } = ui;
  nodes.stage.addEventListener("pointerover", (event) => pointAt(ui, "hovered", eventCell(event)));
  nodes.stage.addEventListener("pointerleave", () => pointAt(ui, "hovered", null));
  nodes.stage.addEventListener("click", (event) =>
    handleClick(ui, /** @type {MouseEvent} */ (event)),
  );
  root.addEventListener("focusin", (event) => handleFocus(ui, event));
  root.addEventListener("focusout", () => {
    pointAt(ui, "focused", null);
    pointAtPart(ui, "focusedPart", null);
  });
  root.addEventListener("keydown", (event) => handleKey(ui, event));
  nodes.body.addEventListener("pointerover", (event) => handleRowHover(ui, event));
  nodes.body.addEventListener("pointerleave", () => pointAtFlow(ui, null));
  nodes.head.addEventListener("click", (event) => handleSort(ui, event));
  nodes.parts.addEventListener("pointerover", (event) =>
    pointAtPart(ui, "hoveredPart", eventPart(event)),
  );
  nodes.parts.addEventListener("pointerleave", () => pointAtPart(ui, "hoveredPart", null));
  nodes.parts.addEventListener("click", (event) => handleListClick(ui, event));
  nodes.by_parts.addEventListener("click", () => ui.change({ mode: "parts" }));
  nodes.by_flows.addEventListener("click", () => ui.change({ mode: "flows" }));
  nodes.take_back.addEventListener("click", () => ui.change({ dropped_a: [], dropped_b: [] }));
  nodes.drop_cell.addEventListener("click", () => {
    if (ui.view.locked) toggleDrop(ui, ui.view.locked);
  });
  nodes.overlay.addEventListener("click", () => ui.change({ overlay: !ui.view.overlay }));
  nodes.copy.addEventListener("click", () => copyCsv(ui));
}
