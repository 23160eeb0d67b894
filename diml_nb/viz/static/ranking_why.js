/** Why one candidate stands above another: a sum of a few parts of the query, or of its cells. */

import { createNode, formatScore, maximum, withSign } from "./dom.js";
import { buildPartsPicture } from "./ranking_parts.js";

/**
 * @import {QueryCells} from "./ranking_parts.js"
 *
 * @typedef {object} Reason The trait `reason` of the Python widget, if two are compared.
 * @property {string} caption
 * @property {string[]} labels Of the two candidates.
 * @property {ReasonRow[]} rows The last one is the sum.
 * @property {string} says
 * @property {QueryCells[]} pictures The query and the two candidates, with the parts of the query.
 * @property {boolean} has_parts The query falls into parts.
 * @property {number[] | null} cells The difference cell by cell of the query, where it is shown.
 *
 * @typedef {object} ReasonRow What one term adds to the scores of two candidates.
 * @property {string} name
 * @property {number | null} part Of the query, from 0; `null` for another term.
 * @property {string} color Of the part.
 * @property {number} first
 * @property {number} second
 * @property {number} difference
 */

/* reason */
/**
 * The comparison of two candidates; without a second one, how to choose it.
 *
 * @param {Reason | null} reason
 * @param {boolean} isByCells
 * @param {(isByCells: boolean) => void} onByCells
 */
export function buildReason(reason, isByCells, onByCells) {
  if (!reason) {
    return createNode(
      "p",
      { class: "diml-how" },
      "Shift-click a candidate, press c on it, or check the box above the lists: why does the" +
        " chosen one stand above or below it?",
    );
  }
  const box = createNode("div", { class: "diml-why-row" }, buildReasonTable(reason));
  if (reason.has_parts) {
    box.append(buildReasonPictures(reason), buildCellsBox(isByCells, onByCells));
  }
  if (reason.cells) box.append(buildCellDifference(reason, reason.cells));
  return box;
}

/**
 * @param {boolean} isChecked
 * @param {(isByCells: boolean) => void} onChange
 */
function buildCellsBox(isChecked, onChange) {
  const box = /** @type {HTMLInputElement} */ (
    createNode("input", { type: "checkbox", "data-by-cells": "" })
  );
  box.checked = isChecked;
  box.addEventListener("change", () => onChange(box.checked));
  const text = "the same difference, cell by cell";
  return createNode("label", { class: "diml-by-cells" }, box, text);
}

/** @param {Reason} reason */
function buildReasonTable({ caption, labels, rows }) {
  const longest = maximum(rows.map(({ difference }) => Math.abs(difference))) || 1;
  const heads = ["", ...labels, "difference"].map((name) =>
    createNode("th", { scope: "col" }, name),
  );
  return createNode(
    "table",
    { class: "diml-why-table" },
    createNode("caption", {}, caption),
    createNode("thead", {}, createNode("tr", {}, ...heads, createNode("td"))),
    createNode("tbody", {}, ...rows.map((row) => buildReasonRow(row, longest))),
  );
}

/**
 * @param {ReasonRow} row
 * @param {number} longest
 */
function buildReasonRow({ name, part, color, first, second, difference }, longest) {
  const head = createNode("th", { scope: "row" });
  if (part === null) head.append(name);
  else {
    const style = `background: ${color}`;
    head.append("part ", createNode("span", { class: "diml-disc", style }, String(part + 1)));
  }
  const numbers = [formatScore(first), formatScore(second), withSign(difference)];
  const width = (50 * Math.abs(difference)) / longest;
  const side = difference < 0 ? "right" : "left";
  const bar = createNode("i", {
    class: difference < 0 ? "diml-for-second" : "diml-for-first",
    style: `width: ${width}%; ${side}: 50%`,
  });
  return createNode(
    "tr",
    {},
    head,
    ...numbers.map((text) => createNode("td", {}, text)),
    createNode("td", { class: "diml-why-bar", "aria-hidden": true }, bar),
  );
}

/** @param {Reason} reason */
function buildReasonPictures({ labels, pictures, rows, says }) {
  const parts = rows.flatMap(({ part, color }) =>
    part === null ? [] : [{ name: String(part + 1), color }],
  );
  const names = ["query", ...labels];
  const kinds = ["diml-of-query", "diml-for-first", "diml-for-second"];
  const figures = pictures.map((cells, i) =>
    createNode(
      "figure",
      { class: kinds[i] },
      buildPartsPicture(cells, parts, `parts of the query in ${names[i]}`),
      createNode("figcaption", {}, names[i]),
    ),
  );
  return createNode(
    "div",
    { class: "diml-why-pictures", role: "group", "aria-label": says },
    ...figures,
  );
}

/* difference by cells */
const CELL_SIDE = 10; // units of the drawing

/**
 * The query, each cell in the colour of the candidate for which it speaks.
 *
 * @param {Reason} reason
 * @param {number[]} cells
 */
function buildCellDifference({ pictures, labels, rows }, cells) {
  const [{ src, grid }] = pictures;
  const [height, width] = grid.map((count) => CELL_SIDE * count);
  const strongest = maximum(cells.map(Math.abs)) || 1;
  const [score, cosine] = [rows[rows.length - 1].difference, rows[0].difference];
  const total = cells.reduce((x, y) => x + y, 0);
  const text =
    `${labels[0]} less ${labels[1]}: score ${withSign(score)} = cosine ${withSign(cosine)}, cells` +
    ` ${withSign(total)}`;
  const svg = createNode("svg", {
    class: "diml-parts-picture",
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": text,
  });
  svg.append(createNode("image", { href: src, width, height, preserveAspectRatio: "none" }));
  cells.forEach((value, n) => {
    svg.append(...buildDifferenceCell(value, n, grid[1], Math.abs(value) / strongest));
  });
  const legend = `+ for ${labels[0]}, \u2212 for ${labels[1]}; the darker, the more`;
  return createNode(
    "figure",
    { class: "diml-why-cells" },
    svg,
    createNode("figcaption", {}, text, createNode("br"), legend),
  );
}

/**
 * @param {number} value
 * @param {number} n
 * @param {number} columns
 * @param {number} share of the strongest cell
 */
function buildDifferenceCell(value, n, columns, share) {
  const [x, y] = [CELL_SIDE * (n % columns), CELL_SIDE * Math.floor(n / columns)];
  const kind = value < 0 ? "diml-for-second" : "diml-for-first";
  const place = { x, y, width: CELL_SIDE, height: CELL_SIDE };
  const nodes = [createNode("rect", { ...place, class: kind, "fill-opacity": 0.85 * share })];
  if (share > 0.2) {
    const middle = { x: x + CELL_SIDE / 2, y: y + CELL_SIDE / 2 };
    nodes.push(createNode("text", { ...middle, class: "diml-sign" }, value < 0 ? "\u2212" : "+"));
  }
  return nodes;
}
