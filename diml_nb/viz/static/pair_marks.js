/** What lies on the two pictures: marked cells and parts, and the crops cut from them. */

import { createNode, range } from "./dom.js";
import { isOutside, SIDES, sameCell } from "./pair_data.js";
import {
  borderPath,
  cellBox,
  cropWindow,
  crossPath,
  partCenter,
  veilPath,
} from "./pair_geometry.js";
import { partName } from "./pair_parts.js";
import { droppedCells } from "./pair_state.js";

/**
 * @import {Box, Cell, Pair, Side} from "./pair_data.js"
 * @import {PairUi} from "./pair_state.js"
 */

/* marks */
/** @param {PairUi} ui */
function buildCrosses({ pair, view }) {
  const dropped = SIDES.flatMap((side) =>
    droppedCells(view, side).map((n) => /** @type {Cell} */ ([side, n])),
  );
  return dropped
    .filter((cell) => !isOutside(pair, cell))
    .map((cell) => createNode("path", { class: "diml-cross", d: crossPath(cellBox(pair, cell)) }));
}

/**
 * Mark the dropped cells, the partners of the chosen cell, and the chosen cell itself.
 *
 * @param {PairUi} ui
 * @param {Cell | null} chosen
 * @param {Cell[]} ends of the highlighted flows
 */
export function drawCellMarks(ui, chosen, ends) {
  const { pair, view, nodes } = ui;
  const partners = ends
    .filter((cell) => !sameCell(cell, chosen))
    .map((cell) => buildMark(pair, cell, "diml-partner"));
  const kind = view.locked ? "diml-chosen diml-locked" : "diml-chosen";
  const chosenMark = chosen ? [buildMark(pair, chosen, kind)] : [];
  nodes.marks.replaceChildren(...buildCrosses(ui), ...partners, ...chosenMark);
  nodes.numbers.replaceChildren();
}

/**
 * @param {Pair} pair
 * @param {Cell} cell
 * @param {string} kind
 */
function buildMark(pair, cell, kind) {
  return createNode("rect", { ...cellBox(pair, cell), class: `diml-mark ${kind}` });
}

/* part marks */
/**
 * A number at the strongest place of each part; all but the chosen part lie behind a veil.
 *
 * @param {PairUi} ui
 * @param {number | null} chosen
 */
export function drawPartMarks(ui, chosen) {
  const { pair, nodes } = ui;
  const marks = chosen === null ? [] : SIDES.flatMap((side) => buildPartMark(pair, side, chosen));
  nodes.marks.replaceChildren(...marks, ...buildCrosses(ui));
  const numbers = SIDES.flatMap((side) =>
    range(pair.parts.list.length).map((k) => buildPartNumber(ui, side, k, chosen)),
  );
  nodes.numbers.replaceChildren(...numbers);
}

/**
 * @param {Pair} pair
 * @param {Side} side
 * @param {number} k
 */
function buildPartMark(pair, side, k) {
  const d = borderPath(pair, side, k);
  return [
    createNode("path", { class: "diml-veil", d: veilPath(pair, side, k), "fill-rule": "evenodd" }),
    createNode("path", { class: "diml-border-halo", d }),
    createNode("path", { class: "diml-border-line", d }),
  ];
}

/**
 * @param {PairUi} ui
 * @param {Side} side
 * @param {number} k
 * @param {number | null} chosen
 */
function buildPartNumber({ pair, view }, side, k, chosen) {
  const [x, y] = partCenter(pair, side, k);
  const isFaded = (chosen !== null && chosen !== k) || view.left_out.includes(k);
  return createNode(
    "g",
    { class: isFaded ? "diml-part-number diml-pale" : "diml-part-number" },
    createNode("circle", { cx: x, cy: y, r: 9, fill: pair.parts.list[k].color }),
    createNode("text", { x, y: y + 4.5, "text-anchor": "middle" }, partName(k)),
  );
}

/* crops */
/**
 * An enlarged piece: the picture again through a smaller window. All crops have one size, so that
 * nothing moves on the page while the pointer does.
 *
 * @param {PairUi} ui
 * @param {Side} side
 * @param {Box} box
 * @param {string} name
 */
export function buildCrop(ui, side, box, name) {
  const picture = clonePicture(ui, side);
  const frame = createNode("rect", { ...box, class: `diml-mark diml-frame diml-${side}` });
  const enlarged = createNode(
    "svg",
    { viewBox: cropWindow(box), role: "img", "aria-label": `enlarged: ${name}` },
    picture,
    frame,
  );
  return createNode("figure", { class: "diml-crop" }, enlarged, createNode("figcaption", {}, name));
}

/**
 * @param {PairUi} ui
 * @param {Side} side
 */
export function clonePicture({ nodes }, side) {
  return nodes.stage.querySelectorAll("image")[SIDES.indexOf(side)].cloneNode();
}
