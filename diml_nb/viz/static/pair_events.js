/** Mouse and keyboard on the view of a pair. */

import { setAttributes } from "./dom.js";
import { sameCell } from "./pair_data.js";
import { highlight } from "./pair_picture.js";
import { moveCell, toggleDropped } from "./pair_state.js";
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
 * Lock a cell, or unlock it.
 *
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function toggleLock(ui, cell) {
  ui.change({ locked: sameCell(cell, ui.view.locked) ? null : cell });
}

/**
 * Drop a cell, or take it back; only where somebody computes the pair again.
 *
 * @param {PairUi} ui
 * @param {Cell} cell
 */
function toggleDrop(ui, cell) {
  ui.change(toggleDropped(ui.view, cell));
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
  const act = keyAction(ui, eventCell(event), event.key);
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
  if (key === "Escape" && ui.view.locked) return () => ui.change({ locked: null });
  if (!cell) return null;
  const next = moveCell(ui.pair, cell, key);
  if (next) return () => focusCell(ui, next);
  if (key === "Enter" || key === " ") return () => toggleLock(ui, cell);
  if (ui.pair.live && (key === "x" || key === "Delete")) return () => toggleDrop(ui, cell);
  return null;
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
  if (event.shiftKey && ui.pair.live) toggleDrop(ui, cell);
  else toggleLock(ui, cell);
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
function focusedCell(event) {
  return eventTarget(event).matches(":focus-visible") ? eventCell(event) : null;
}

/* listeners */
/**
 * The root listens for focus and keys: a listener on the SVG would make it a stop of the Tab key.
 *
 * @param {PairUi} ui
 */
export function addListeners(ui) {
  const { root, parts } = ui;
  parts.stage.addEventListener("pointerover", (event) => pointAt(ui, "hovered", eventCell(event)));
  parts.stage.addEventListener("pointerleave", () => pointAt(ui, "hovered", null));
  parts.stage.addEventListener("click", (event) =>
    handleClick(ui, /** @type {MouseEvent} */ (event)),
  );
  root.addEventListener("focusin", (event) => pointAt(ui, "focused", focusedCell(event)));
  root.addEventListener("focusout", () => pointAt(ui, "focused", null));
  root.addEventListener("keydown", (event) => handleKey(ui, event));
  parts.body.addEventListener("pointerover", (event) => handleRowHover(ui, event));
  parts.body.addEventListener("pointerleave", () => pointAtFlow(ui, null));
  parts.head.addEventListener("click", (event) => handleSort(ui, event));
  parts.overlay.addEventListener("click", () => ui.change({ overlay: !ui.view.overlay }));
  parts.copy.addEventListener("click", () => copyCsv(ui));
}
