/** A pair saved from a page as a page of its own, which needs no server and no weights. */

/**
 * @import {PagePayload} from "./pair_page.js"
 *
 * @typedef {object} SavedPage The page without its pair, as Python wrote it, and what stands in it.
 * @property {string} text
 * @property {{title: string, payload: string, fallback: string}} marks
 */

/* saved page */
/**
 * Base64 of the little-endian bytes of numbers in float32, as `encode_float32`.
 *
 * @param {ArrayLike<number>} numbers
 */
export function encodeFloat32(numbers) {
  const bytes = new Uint8Array(Float32Array.from(numbers).buffer);
  let characters = "";
  for (const byte of bytes) characters += String.fromCharCode(byte);
  return btoa(characters);
}

/**
 * JSON that cannot end the script element that holds it.
 *
 * @param {unknown} payload
 */
export function jsonInHtml(payload) {
  const text = JSON.stringify(payload, (_, value) =>
    ArrayBuffer.isView(value) ? encodeFloat32(/** @type {Float64Array} */ (value)) : value,
  );
  return text.replace(/[<>&]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/**
 * A text that a page shows as it is.
 *
 * @param {string} text
 */
export function textInHtml(text) {
  return text.replace(/[<>&"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/**
 * @param {SavedPage} page
 * @param {PagePayload} shown
 */
export function savePage({ text, marks }, shown) {
  const { data, pictures } = shown;
  const title = `${pictures.a.label} and ${pictures.b.label}`;
  const words = [data.parts.text, data.text, ...data.notes].join("\n");
  const pieces = new Map([
    [marks.title, textInHtml(title)],
    [marks.payload, jsonInHtml(shown)],
    [marks.fallback, textInHtml(words)],
  ]);
  // in one pass, so that a mark within a label stays what it is
  return text.replace(new RegExp([...pieces.keys()].join("|"), "g"), (mark) =>
    String(pieces.get(mark)),
  );
}
