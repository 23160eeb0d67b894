/**
 * `node maps.js RUNTIME WASM NETWORK FOLDER`: the maps that the network of the page makes of the
 * images in a folder, by the runtime of the page. `cases.json` there lists names and shapes; the
 * numbers are float32.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { gunzipSync } from "node:zlib";

const [runtime, wasm, network, folder] = process.argv.slice(2);
const ort = await import(pathToFileURL(runtime).href);
Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: gunzipSync(readFileSync(wasm)) });
const session = await ort.InferenceSession.create(gunzipSync(readFileSync(network)));
for (const { name, shape } of JSON.parse(readFileSync(`${folder}/cases.json`, "utf8"))) {
  const bytes = new Uint8Array(readFileSync(`${folder}/${name}.image`));
  const image = new ort.Tensor("float32", new Float32Array(bytes.buffer), shape);
  const { map } = await session.run({ image });
  writeFileSync(`${folder}/${name}.map`, map.data);
}
