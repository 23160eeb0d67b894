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

/** What the files of a network begin with: WebAssembly, and a network as ONNX. */
const FIRST_BYTES = [0x00, 0x08];

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
  const parts = files.parts.map((part, k) =>
    fetchPart(part, FIRST_BYTES[k], attempt.signal, onBytes),
  );
  const [wasm, model] = await Promise.all(parts).catch((error) => {
    attempt.abort();
    throw error;
  });
  const runtime = await importRuntime(files.runtime);
  Object.assign(runtime.env.wasm, { numThreads: 1, wasmBinary: wasm });
  const session = await runtime.InferenceSession.create(new Uint8Array(model));
  return (view) => runNetwork(runtime, session, files, view);
}

/** @param {string} address */
async function importRuntime(address) {
  try {
    return await import(new URL(address, location.href).href);
  } catch {
    // browsers remember that an import failed
    throw new Refusal(`${address} could not be loaded. Reload the page and try again.`);
  }
}

/**
 * The bytes of a file, whole and unpacked. The runtime would not say what is wrong with others, and
 * after a wrong WebAssembly it takes no second one.
 *
 * @param {NetworkFiles["parts"][number]} part
 * @param {number} firstByte of the unpacked file
 * @param {AbortSignal} signal
 * @param {(count: number) => void} onBytes
 * @returns {Promise<ArrayBuffer>}
 */
async function fetchPart({ address, bytes }, firstByte, signal, onBytes) {
  const fetched = await fetchBytes(address, signal, onBytes);
  const [first, second] = new Uint8Array(fetched);
  const isPacked = first === 0x1f && second === 0x8b; // else the browser may have unpacked it
  if (isPacked && fetched.byteLength !== bytes) {
    const counts = `${fetched.byteLength} of ${bytes} bytes`;
    throw new Refusal(`${address} did not arrive whole (${counts}). Try again.`);
  }
  const unpacked = isPacked ? await unpack(fetched) : fetched;
  if (new Uint8Array(unpacked)[0] !== firstByte) {
    throw new Refusal(
      `What came as ${address} is another file: perhaps the page of a network that asks you to ` +
        "log in. Try again.",
    );
  }
  return unpacked;
}

/** @param {ArrayBuffer} packed by gzip */
function unpack(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/**
 * @param {string} address
 * @param {AbortSignal} signal
 * @param {(count: number) => void} onBytes
 * @returns {Promise<ArrayBuffer>}
 */
async function fetchBytes(address, signal, onBytes) {
  const broken = () => {
    throw new Refusal(`${address} could not be fetched: the connection failed. Try again.`);
  };
  const response = await fetch(address, { signal }).catch(broken);
  if (!response.ok || !response.body) {
    throw new Refusal(
      `${address} could not be fetched (${response.status}). It lies beside this page: copy or publish the whole folder.`,
    );
  }
  const counting = new TransformStream({
    transform: (chunk, controller) => {
      onBytes(chunk.length);
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(counting)).arrayBuffer().catch(broken);
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
