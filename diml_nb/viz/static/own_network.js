/** The network in the page: fetched when the reader asks, run by WebAssembly on one thread. */

import { Refusal } from "./own_picture.js";
import { normalize } from "./resample.js";

/**
 * @import {Pixels} from "./resample.js"
 * @import {MapPayload} from "./solver_cells.js"
 *
 * @typedef {object} NetworkFiles Where the files of a network are, and how it takes pictures.
 * @property {string} runtime The script of ONNX Runtime.
 * @property {{address: string, bytes: number}[]} parts Its WebAssembly, and the network.
 * @property {number} side
 * @property {number[]} mean
 * @property {number[]} std
 *
 * @typedef {(view: Pixels) => Promise<MapPayload>} Network The map of what it sees of a picture.
 */

/* network */
const FROM_A_FILE =
  "This page was opened as a file, and browsers let no file fetch another one: the network cannot " +
  "be loaded. Open the page from a web server (python -m http.server in the folder of the site).";
const NO_WASM =
  "This browser has no WebAssembly, or it is switched off; the network needs it. The explorers of " +
  "the book and saved pages work without.";
const NO_UNPACKING =
  "This browser cannot unpack the network, which is packed by gzip; newer ones can. The explorers " +
  "of the book and saved pages work without.";

/** Why this page cannot run a network; empty if it can. */
export function networkObstacle() {
  if (location.protocol === "file:") return FROM_A_FILE;
  if (typeof WebAssembly !== "object") return NO_WASM;
  return typeof DecompressionStream === "function" ? "" : NO_UNPACKING;
}

/**
 * Fetch the network and make it ready. Where one of its files fails, the others are not waited for.
 *
 * @param {NetworkFiles} files
 * @param {(share: number) => void} onProgress of the bytes, from 0 to 1
 * @returns {Promise<Network>}
 */
export async function loadNetwork(files, onProgress) {
  const total = files.parts.reduce((bytes, part) => bytes + part.bytes, 0);
  const attempt = new AbortController();
  let fetched = 0;
  const onBytes = (/** @type {number} */ count) => {
    if (attempt.signal.aborted) return;
    fetched += count;
    onProgress(Math.min(1, fetched / total));
  };
  const parts = files.parts.map(({ address }) => fetchPart(address, attempt.signal, onBytes));
  const [wasm, model] = await Promise.all(parts).catch((error) => {
    attempt.abort();
    throw error;
  });
  const runtime = await import(new URL(files.runtime, location.href).href);
  Object.assign(runtime.env.wasm, { numThreads: 1, wasmBinary: wasm });
  const session = await runtime.InferenceSession.create(new Uint8Array(model));
  return (view) => runNetwork(runtime, session, files, view);
}

/**
 * The bytes of a file, unpacked if it is packed by gzip. A server may have said so itself; then
 * the browser has unpacked it.
 *
 * @param {string} address
 * @param {AbortSignal} signal
 * @param {(count: number) => void} onBytes
 * @returns {Promise<ArrayBuffer>}
 */
async function fetchPart(address, signal, onBytes) {
  const response = await fetch(address, { signal });
  if (!response.ok || !response.body) {
    throw new Refusal(`${address} could not be fetched (${response.status}).`);
  }
  const counting = new TransformStream({
    transform: (chunk, controller) => {
      onBytes(chunk.length);
      controller.enqueue(chunk);
    },
  });
  const bytes = await new Response(response.body.pipeThrough(counting)).arrayBuffer();
  const [first, second] = new Uint8Array(bytes);
  if (first !== 0x1f || second !== 0x8b) return bytes;
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(unpacked).arrayBuffer();
}

/**
 * @param {any} runtime
 * @param {any} session
 * @param {NetworkFiles} files
 * @param {Pixels} view
 * @returns {Promise<MapPayload>}
 */
async function runNetwork(runtime, session, files, view) {
  const shape = [1, 3, view.height, view.width];
  const image = new runtime.Tensor("float32", normalize(view, files), shape);
  const { map } = await session.run({ image });
  return { shape: map.dims.slice(1), values: map.data };
}
