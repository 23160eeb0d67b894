/** The parts of a query: its cells in their colours, and a checkbox that drops each part. */

import { createNode, formatScore, range } from "./dom.js";

/**
 * @import {Face} from "./pair_data.js"
 *
 * @typedef {object} QueryPart
 * @property {string} name Its number, as figures show it.
 * @property {string} color
 * @property {Face} face Where it is strongest.
 * @property {number} adds What it adds to S of a candidate, on average.
 *
 * @typedef {object} QueryCells An image and the parts of the query in it.
 * @property {string} src As the network saw it.
 * @property {number[]} grid Rows and columns.
 * @property {number[]} part The part of each cell; -1 of none.
 * @property {number[]} opacity
 */

/* texts */
/** @param {QueryPart} part */
export function partText({ name, adds }) {
  return `part ${name}, adds ${formatScore(adds)}`;
}

/**
 * What a screen reader says of the picture of the parts.
 *
 * @param {number} count
 * @param {number[]} dropped
 */
export function partsLabel(count, dropped) {
  const gone = dropped.length ? `, ${dropped.length} of them dropped` : "";
  return `the query in ${count} parts${gone}`;
}

/* what is dropped */
/**
 * Numbers of the dropped parts in order, after one was dropped or taken back.
 *
 * @param {number[]} dropped
 * @param {number} k
 * @param {boolean} isDropped
 */
export function changeDropped(dropped, k, isDropped) {
  const others = dropped.filter((other) => other !== k);
  return isDropped ? [...others, k].sort((a, b) => a - b) : others;
}

/**
 * The cells that belong to a part that is not dropped: column, row, part and opacity.
 *
 * @param {QueryCells} cells
 * @param {number[]} dropped
 */
export function shownCells({ grid, part, opacity }, dropped) {
  const [, columns] = grid;
  return range(part.length)
    .filter((n) => part[n] >= 0 && !dropped.includes(part[n]))
    .map((n) => ({
      x: n % columns,
      y: Math.floor(n / columns),
      part: part[n],
      opacity: opacity[n],
    }));
}

/* picture */
const CELL = 10; // units of the drawing

/**
 * A picture in grey, the cells of each part in its colour, and its number where it is strongest.
 *
 * @param {QueryCells} cells
 * @param {{name: string, color: string}[]} parts
 * @param {string} label
 * @param {number[]} [dropped]
 */
export function buildPartsPicture(cells, parts, label, dropped = []) {
  const [rows, columns] = cells.grid;
  const [width, height] = [CELL * columns, CELL * rows];
  const image = { href: cells.src, width, height, preserveAspectRatio: "none" };
  const attributes = {
    class: "diml-parts-picture",
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": label,
  };
  const svg = createNode("svg", attributes, createNode("image", image));
  const shown = shownCells(cells, dropped);
  for (const { x, y, part, opacity } of shown) {
    const place = { x: CELL * x, y: CELL * y, width: CELL, height: CELL };
    const look = { fill: parts[part].color, "fill-opacity": opacity };
    svg.append(createNode("rect", { ...place, ...look }));
  }
  parts.forEach((part, k) => {
    const own = shown.filter((cell) => cell.part === k);
    if (own.length === 0) return;
    const strongest = own.reduce((best, cell) => (cell.opacity > best.opacity ? cell : best));
    svg.append(...buildNumber(part, strongest, width / 12));
  });
  return svg;
}

/**
 * The number of a part on a disc of its colour.
 *
 * @param {{name: string, color: string}} part
 * @param {{x: number, y: number}} cell
 * @param {number} r
 */
function buildNumber({ name, color }, { x, y }, r) {
  const [cx, cy] = [CELL * (x + 0.5), CELL * (y + 0.5)];
  return [
    createNode("circle", { cx, cy, r, fill: color, stroke: "black" }),
    createNode(
      "text",
      {
        x: cx,
        y: cy,
        "font-size": 1.5 * r,
        "text-anchor": "middle",
        "dominant-baseline": "central",
      },
      name,
    ),
  ];
}

/**
 * Where a part is strongest, cut out of the picture.
 *
 * @param {string} src
 * @param {Face} face
 */
function buildPartCrop(src, [left, top, right, bottom]) {
  const viewBox = `${left} ${top} ${right - left} ${bottom - top}`;
  const image = { href: src, width: 1, height: 1, preserveAspectRatio: "none" };
  const attributes = { class: "diml-part-crop", viewBox, "aria-hidden": true };
  return createNode("svg", attributes, createNode("image", image));
}

/* checkboxes */
/**
 * A checkbox for each part; without parts the note alone.
 *
 * @param {QueryPart[]} parts
 * @param {QueryCells | null} cells
 * @param {number[]} dropped
 * @param {string} note
 * @param {(dropped: number[]) => void} onDrop
 */
export function buildPartsStrip(parts, cells, dropped, note, onDrop) {
  const small = createNode("p", { class: "diml-parts-note" }, note);
  if (!cells) return small;
  const boxes = parts.map((part, k) => {
    const isDropped = dropped.includes(k);
    const onChange = (/** @type {boolean} */ checked) => onDrop(changeDropped(dropped, k, checked));
    return buildPart(part, k, buildPartCrop(cells.src, part.face), isDropped, onChange);
  });
  const legend = createNode("legend", {}, "drop parts of the query");
  return createNode("fieldset", { class: "diml-query-parts" }, legend, ...boxes, small);
}

/**
 * @param {QueryPart} part
 * @param {number} k
 * @param {Node} crop
 * @param {boolean} isDropped
 * @param {(checked: boolean) => void} onChange
 */
function buildPart(part, k, crop, isDropped, onChange) {
  const box = /** @type {HTMLInputElement} */ (
    createNode("input", { type: "checkbox", "data-part": k })
  );
  box.checked = isDropped;
  box.addEventListener("change", () => onChange(box.checked));
  const disc = createNode(
    "span",
    { class: "diml-disc", style: `background: ${part.color}`, "aria-hidden": true },
    part.name,
  );
  const text = createNode("span", {}, partText(part));
  const classes = isDropped ? "diml-query-part diml-gone" : "diml-query-part";
  return createNode("label", { class: classes }, box, disc, crop, text);
}
