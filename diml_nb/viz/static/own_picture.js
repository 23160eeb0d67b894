/** Pictures of the reader: a file becomes pixels in the page, and goes nowhere. */

import { createNode } from "./dom.js";

/**
 * @import {Pixels, Size} from "./resample.js"
 */

/* read picture */
const MILLION = 1e6;
const MOST_MEGAPIXELS = 50; // 200 MB in memory
const LONGEST_SIDE = 32_767; // of a canvas in Firefox; a longer one is black in others

/** What the reader is told; other errors are the page's own. */
export class Refusal extends Error {}

/**
 * Why a picture is too large to be read here; empty if it is not.
 *
 * @param {string} name
 * @param {Size} size
 */
export function sizeObstacle(name, [width, height]) {
  const megapixels = (width * height) / MILLION;
  if (megapixels > MOST_MEGAPIXELS) {
    return (
      `${name} has ${Math.round(megapixels)} megapixels (${width} x ${height}); ` +
      `this page reads at most ${MOST_MEGAPIXELS}. Make it smaller first.`
    );
  }
  if (Math.max(width, height) <= LONGEST_SIDE) return "";
  return (
    `${name} is ${width} x ${height} pixels; this page reads at most ${LONGEST_SIDE} along a ` +
    "side. Make it smaller first."
  );
}

/**
 * The pixels of a file, turned as its EXIF note says, transparency over white, as `load_image`.
 *
 * @param {File} file
 * @returns {Promise<Pixels>}
 */
export async function readPicture(file) {
  const { name, type } = file;
  if (type === "image/svg+xml") {
    throw new Refusal(`${name} is an SVG: lines and no pixels. Save it as a PNG first.`);
  }
  const obstacle = sizeObstacle(name, await pictureSize(file));
  if (obstacle) throw new Refusal(obstacle);
  if (hasFrames(new Uint8Array(await file.arrayBuffer()))) {
    throw new Refusal(
      `${name} has several frames; save the one that is meant as a file of its own.`,
    );
  }
  const pixels = await decodePicture(file).catch(() => {
    throw new Refusal(`${name} could not be decoded: it is broken, or memory ran out.`);
  });
  // a canvas that a browser cannot hold stays transparent, and nobody says so
  if (pixels.data.at(-1) !== 255) {
    const size = `${pixels.width} x ${pixels.height}`;
    throw new Refusal(`${name} is too large for this browser (${size}). Make it smaller first.`);
  }
  return pixels;
}

/**
 * @param {File} file
 * @returns {Promise<Pixels>}
 */
async function decodePicture(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(file, /** @type {ImageBitmapOptions} */ (options));
  return pixelsOf(bitmap, [bitmap.width, bitmap.height]);
}

/**
 * Width and height as the head of a file says, before anything is decoded.
 *
 * @param {File} file
 * @returns {Promise<Size>}
 */
async function pictureSize(file) {
  const image = new Image();
  const address = URL.createObjectURL(file);
  try {
    await new Promise((done, fail) => {
      image.onload = done;
      image.onerror = fail;
      image.src = address;
    });
    return [image.naturalWidth, image.naturalHeight];
  } catch {
    throw new Refusal(`${file.name} is not a picture that this browser can read.`);
  } finally {
    URL.revokeObjectURL(address);
  }
}

/**
 * @param {Size} size
 * @returns {{canvas: HTMLCanvasElement, context: CanvasRenderingContext2D}}
 */
function createCanvas([width, height]) {
  const canvas = /** @type {HTMLCanvasElement} */ (
    /** @type {unknown} */ (createNode("canvas", { width, height }))
  );
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("no canvas");
  return { canvas, context };
}

/**
 * @param {ImageBitmap} bitmap
 * @param {Size} size
 * @returns {Pixels}
 */
function pixelsOf(bitmap, size) {
  const { context } = createCanvas(size);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, ...size);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, ...size);
}

/**
 * A PNG of pixels, as a data address.
 *
 * @param {Pixels} pixels
 */
export function pngOf({ width, height, data }) {
  const { canvas, context } = createCanvas([width, height]);
  context.putImageData(new ImageData(new Uint8ClampedArray(data), width, height), 0, 0);
  return canvas.toDataURL("image/png");
}

/* frames */
/**
 * Whether a file is a GIF, PNG or WebP of several frames, of which a browser would take the first.
 *
 * @param {Uint8Array} bytes
 */
export function hasFrames(bytes) {
  const textAt = (/** @type {number} */ at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (textAt(0) === "GIF8") return countGifFrames(bytes) > 1;
  if (textAt(8) === "WEBP") return textAt(12) === "VP8X" && (bytes[20] & 2) > 0;
  if (textAt(1) !== "PNG\r") return false;
  const numberAt = (/** @type {number} */ at) => new DataView(bytes.buffer).getUint32(at);
  let at = 8;
  while (at + 12 < bytes.length && !["acTL", "IDAT"].includes(textAt(at + 4))) {
    at += 12 + numberAt(at);
  }
  return at + 12 <= bytes.length && textAt(at + 4) === "acTL" && numberAt(at + 8) > 1;
}

/** @param {Uint8Array} bytes */
function countGifFrames(bytes) {
  const colors = (/** @type {number} */ flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  let at = 13 + colors(bytes[10]);
  let count = 0;
  while (bytes[at] === 0x21 || bytes[at] === 0x2c) {
    if (bytes[at] === 0x2c) {
      count += 1;
      at += 11 + colors(bytes[at + 9]);
    } else {
      at += 2;
    }
    while (bytes[at] > 0) at += 1 + bytes[at];
    at += 1;
  }
  return count;
}
