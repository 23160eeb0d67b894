/** The parts of a query: its cells in their colours, and a checkbox that drops each part. */

import { createNode, formatScore, range } from "./dom.js";

/**
 * @typedef {object} QueryPart
 * @property {string} name Its number, as figures show it.
 * @property {string} color
 * @property {string} src Where it is strongest.
 * @property {number} x Where its number stands, in shares of the width and the height.
 * @property {number} y
 * @property {number} adds What it adds to S of a candidate, on average.
 *
 * @typedef {object} QueryCells
 * @property {string} src The query as the network saw it.
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
 * The query in grey, the cells of each part in its colour, and its number.
 *
 * @param {QueryCells} cells
 * @param {QueryPart[]} parts
 * @param {number[]} dropped
 */
export function buildPartsPicture(cells, parts, dropped) {
  const [rows, columns] = cells.grid;
  const [width, height] = [CELL * columns, CELL * rows];
  const label = partsLabel(parts.length, dropped);
  const image = { href: cells.src, width, height, preserveAspectRatio: "none" };
  const svg = createNode(
    "svg",
    { class: "diml-parts-picture", viewBox: `0 0 ${width} ${height}`, role: "img" },
    createNode("image", image),
  );
  svg.setAttribute("aria-label", label);
  for (const { x, y, part, opacity } of shownCells(cells, dropped)) {
    const place = { x: CELL * x, y: CELL * y, width: CELL, height: CELL };
    const look = { fill: parts[part].color, "fill-opacity": opacity };
    svg.append(createNode("rect", { ...place, ...look }));
  }
  parts.forEach((part, k) => {
    if (!dropped.includes(k)) svg.append(...buildNumber(part, width, height));
  });
  return svg;
}

/**
 * The number of a part on a disc of its colour.
 *
 * @param {QueryPart} part
 * @param {number} width
 * @param {number} height
 */
function buildNumber({ name, color, x, y }, width, height) {
  const [cx, cy, r] = [width * x, height * y, width / 12];
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

/* checkboxes */
/**
 * A checkbox for each part; without parts the note alone.
 *
 * @param {QueryPart[]} parts
 * @param {number[]} dropped
 * @param {string} note
 * @param {(dropped: number[]) => void} onDrop
 */
export function buildPartsStrip(parts, dropped, note, onDrop) {
  const small = createNode("p", { class: "diml-parts-note" }, note);
  if (!parts.length) return small;
  const boxes = parts.map((part, k) => {
    const isDropped = dropped.includes(k);
    return buildPart(part, k, isDropped, (checked) => onDrop(changeDropped(dropped, k, checked)));
  });
  const legend = createNode("legend", {}, "drop parts of the query");
  return createNode("fieldset", { class: "diml-parts" }, legend, ...boxes, small);
}

/**
 * @param {QueryPart} part
 * @param {number} k
 * @param {boolean} isDropped
 * @param {(checked: boolean) => void} onChange
 */
function buildPart(part, k, isDropped, onChange) {
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
  const crop = createNode("img", { src: part.src, alt: "" });
  const text = createNode("span", {}, partText(part));
  const classes = isDropped ? "diml-part diml-gone" : "diml-part";
  return createNode("label", { class: classes }, box, disc, crop, text);
}
