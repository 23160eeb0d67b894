/** The list of the parts of a pair: a row each, with its crops, its bar, its numbers and a button. */

import { createNode, formatScore, range, setAttributes } from "./dom.js";
import { SIDES } from "./pair_data.js";
import { faceBox } from "./pair_geometry.js";
import { clonePicture } from "./pair_marks.js";
import { leftOutText, partName, partNumbers, partSumText } from "./pair_parts.js";

/**
 * @import {Box} from "./pair_data.js"
 * @import {PairUi} from "./pair_state.js"
 */

/* part list */
/**
 * Draw the rows anew, for other numbers. A row stays the same element, so that the focus stays; if
 * the row with the focus is gone, the last one gets it.
 *
 * @param {PairUi} ui
 */
export function drawPartRows(ui) {
  const { pair, nodes } = ui;
  const { list, rest, note } = pair.parts;
  const hadFocus = nodes.parts.contains(document.activeElement);
  while (nodes.parts.childElementCount > list.length) nodes.parts.lastElementChild?.remove();
  while (nodes.parts.childElementCount < list.length) nodes.parts.append(buildRow(ui));
  const longest = Math.max(...list.map((part) => Math.abs(part.contribution)), Math.abs(rest));
  for (const k of range(list.length)) fillRow(ui, k, longest);
  if (hadFocus && !nodes.parts.contains(document.activeElement)) {
    /** @type {HTMLElement | null} */ (
      nodes.parts.lastElementChild?.querySelector("button")
    )?.focus();
  }
  nodes.rest.replaceChildren(
    buildBar(rest, longest, ""),
    createNode("span", {}, `${formatScore(rest)} rest: flows between parts`),
  );
  nodes.note.textContent = note;
  nodes.part_sum.textContent = partSumText(pair);
}

/**
 * Bring up to date which part is locked, and which are left out.
 *
 * @param {PairUi} ui
 */
export function describePartRows({ pair, view, nodes }) {
  [...nodes.parts.children].forEach((row, k) => {
    const isLeftOut = view.left_out.includes(k);
    row.classList.toggle("diml-left-out", isLeftOut);
    const [choose, drop] = row.querySelectorAll("button");
    setAttributes(choose, { "aria-pressed": view.part === k });
    if (!pair.live) setAttributes(drop, { "aria-pressed": isLeftOut });
  });
  nodes.left_out.textContent = leftOutText(pair, view.left_out);
}

/* part rows */
/**
 * A row without numbers. Its faces are cut from the pictures, which stay when the numbers change.
 *
 * @param {PairUi} ui
 */
function buildRow(ui) {
  const faces = SIDES.map((side) => {
    const attributes = { class: `diml-face diml-face-${side}`, "aria-hidden": true };
    return createNode("svg", attributes, clonePicture(ui, side));
  });
  const badge = createNode("span", { class: "diml-badge" });
  const amount = createNode("span", { class: "diml-amount" });
  return createNode(
    "li",
    { class: "diml-part-row" },
    createNode("button", { type: "button", class: "diml-part" }, badge, ...faces, amount),
    createNode("button", { type: "button", class: "diml-button diml-drop" }),
  );
}

/**
 * @param {PairUi} ui
 * @param {number} k
 * @param {number} longest
 */
function fillRow({ pair, nodes }, k, longest) {
  const [choose, drop] = nodes.parts.children[k].querySelectorAll("button");
  const [badge, faceA, faceB, amount] = choose.children;
  const { contribution, color, face } = pair.parts.list[k];
  const { adds, product } = partNumbers(pair, k);
  badge.textContent = partName(k);
  setAttributes(badge, { style: `background:${color}` });
  setAttributes(faceA, { viewBox: viewBox(faceBox(pair.boxes.a, face.a)) });
  setAttributes(faceB, { viewBox: viewBox(faceBox(pair.boxes.b, face.b)) });
  const numbers = createNode("span", {}, createNode("b", {}, adds), ` = ${product}`);
  amount.replaceChildren(buildBar(contribution, longest, color), numbers);
  const label = `part ${partName(k)}: adds ${adds}, ${product}`;
  setAttributes(choose, { "data-part": k, "aria-label": label });
  const act = pair.live ? "drop" : "leave out";
  drop.textContent = act;
  setAttributes(drop, { "data-drop": k, "aria-label": `${act} part ${partName(k)}` });
  drop.removeAttribute("aria-pressed");
  drop.hidden = pair.parts.list.length < 2;
  if (drop.hidden && drop === document.activeElement) choose.focus();
}

/** @param {Box} box */
function viewBox({ x, y, width, height }) {
  return `${x} ${y} ${width} ${height}`;
}

/**
 * @param {number} value
 * @param {number} longest
 * @param {string} color
 */
function buildBar(value, longest, color) {
  const width = (100 * Math.abs(value)) / (longest || 1);
  const kind = value < 0 ? "diml-bar diml-negative" : "diml-bar";
  return createNode("i", { class: kind, style: `width:${width}%;--bar:${color || "#8c8c8c"}` });
}
