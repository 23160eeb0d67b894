/**
 * What all views share: elements, numbers as text, colours, and the traits of a widget.
 *
 * @typedef {string | number | boolean} AttributeValue
 *
 * @typedef {object} WidgetModel The traits of a Python widget, as anywidget hands them over.
 * @property {(name: string) => any} get
 * @property {(name: string, value: unknown) => void} set
 * @property {() => void} save_changes Send what was set to Python.
 * @property {(event: string, listener: () => void) => void} on
 * @property {(event: string, listener: () => void) => void} off
 *
 * @typedef {{model: WidgetModel, el: HTMLElement}} RenderContext
 */

/* elements */
const SVG_NAMESPACE = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set([
  "svg",
  "g",
  "rect",
  "path",
  "image",
  "line",
  "text",
  "polyline",
  "circle",
]);

/**
 * Create an element. A string among the children becomes a text node and is never read as markup.
 *
 * @param {string} tag
 * @param {Record<string, AttributeValue>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElement | SVGElement}
 */
export function createNode(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag)
    ? /** @type {SVGElement} */ (document.createElementNS(SVG_NAMESPACE, tag))
    : document.createElement(tag);
  setAttributes(node, attributes);
  node.append(...children);
  return node;
}

/**
 * @param {Element} node
 * @param {Record<string, AttributeValue>} attributes
 */
export function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    // a page's policy forbids the attribute; the object is part of a script that it allows
    if (name === "style") /** @type {HTMLElement} */ (node).style.cssText = String(value);
    else node.setAttribute(name, String(value));
  }
}

/* numbers */
/**
 * The whole numbers from 0 to `count - 1`.
 *
 * @param {number} count
 */
export function range(count) {
  return [...Array(count).keys()];
}

/** @param {Iterable<number>} numbers */
export function sum(numbers) {
  let total = 0;
  for (const x of numbers) total += x;
  return total;
}

/**
 * The largest of some numbers, at least 0.
 *
 * @param {Iterable<number>} numbers
 */
export function maximum(numbers) {
  let largest = 0;
  for (const x of numbers) largest = Math.max(largest, x);
  return largest;
}

/**
 * Python sends a tensor as base64 of its little-endian float32 bytes, row by row; the page's own
 * solver hands over the numbers as they are.
 *
 * @param {string | ArrayLike<number>} text
 */
export function decodeFloat32(text) {
  if (typeof text !== "string") return Float32Array.from(text);
  return new Float32Array(decodeBytes(text).buffer);
}

/**
 * Shares from -1 to 1 as Python sends them: base64 of little-endian int16, where 32767 is 1.
 *
 * @param {string} text
 */
export function decodeInt16(text) {
  return new Int16Array(decodeBytes(text).buffer);
}

/** @param {string} text base64 */
export function decodeBytes(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/** @param {number} score */
export function formatScore(score) {
  const text = score.toFixed(4);
  return Number(text) === 0 ? (0).toFixed(4) : text; // never -0.0000
}

/**
 * @param {number} x
 * @param {number} [digits] after the point
 */
export function withSign(x, digits = 4) {
  const text = Math.abs(x).toFixed(digits);
  return `${x < 0 && Number(text) !== 0 ? "-" : "+"}${text}`;
}

/**
 * @param {number} share 1 is all of it
 * @param {number} [digits] after the point
 */
export function formatPercent(share, digits = 0) {
  return `${(100 * share).toFixed(digits)}%`;
}

/* colours */
// Viridis at 17 equal steps, three bytes a colour.
const VIRIDIS_HEX =
  "44015448186a472d7b4240863b528b33638d2c728e26828e21918c" +
  "1fa08828ae803fbc735ec96284d44baddc30d8e219fde725";
const VIRIDIS_BYTES = (VIRIDIS_HEX.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16));

/**
 * The colour of a number between 0 and 1; what lies outside has the colour of the nearer end.
 *
 * @param {number} x
 */
export function viridis(x) {
  const position = 16 * Math.min(1, Math.max(0, x));
  const stop = Math.min(15, Math.floor(position));
  const channels = range(3).map((channel) => {
    const low = VIRIDIS_BYTES[3 * stop + channel];
    const high = VIRIDIS_BYTES[3 * (stop + 1) + channel];
    return Math.round(low + (position - stop) * (high - low));
  });
  return `rgb(${channels})`;
}

/* traits */
/**
 * Call a function whenever one of some traits of a widget changes.
 *
 * @param {WidgetModel} model
 * @param {Record<string, () => void>} listeners by the name of the trait
 * @returns {() => void} stops listening
 */
export function listenToTraits(model, listeners) {
  for (const [name, listener] of Object.entries(listeners)) model.on(`change:${name}`, listener);
  return () => {
    for (const [name, listener] of Object.entries(listeners)) model.off(`change:${name}`, listener);
  };
}
