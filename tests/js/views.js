/**
 * What the page's network sees of pictures, for tests in Python: `node views.js cases.json` writes
 * it as JSON. A case holds a picture, RGBA in base64, and a side in pixels or a new size.
 */

import { readFileSync } from "node:fs";
import { normalize, resize, viewOf } from "../../diml_nb/viz/static/resample.js";

/** @param {Uint8ClampedArray | Uint8Array | Float32Array} numbers */
function base64(numbers) {
  return Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength).toString("base64");
}

const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));
const answers = cases.map((/** @type {any} */ { width, height, data, side, size, scale }) => {
  const picture = { width, height, data: new Uint8Array(Buffer.from(data, "base64")) };
  const view = size ? resize(picture, size) : viewOf(picture, side);
  const ready = scale ? base64(normalize(view, scale)) : "";
  return { width: view.width, height: view.height, data: base64(view.data), ready };
});
process.stdout.write(JSON.stringify(answers));
