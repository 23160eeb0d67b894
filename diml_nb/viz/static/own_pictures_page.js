/** The script of the page that matches two pictures of the reader, who keeps them. */

import { createNode, decodeBytes, formatPercent } from "./dom.js";
import { loadNetwork, networkObstacle } from "./own_network.js";
import { pngOf, Refusal, readPicture } from "./own_picture.js";
import { packMaps } from "./pack_maps.js";
import { waitingRoots } from "./page_controls.js";
import { createPairSolver } from "./pair_answer.js";
import { buildDownload, createLivePair } from "./pair_live.js";
import { viewOf } from "./resample.js";
import { savePage } from "./saved_page.js";

/**
 * @import {Network, NetworkFiles} from "./own_network.js"
 * @import {Picture, Side} from "./pair_data.js"
 * @import {ControlPayload, PageControls} from "./page_controls.js"
 * @import {LiveView} from "./pair_live.js"
 * @import {Pixels} from "./resample.js"
 * @import {MapPayload} from "./solver_cells.js"
 * @import {SavedPage} from "./saved_page.js"
 *
 * @typedef {object} OwnPicturesPayload
 * @property {NetworkFiles} network
 * @property {ControlPayload[]} controls
 * @property {string[]} notes Lines that stay below the pictures.
 * @property {Record<Side, {src: string, label: string}>} drawings For a reader without pictures.
 * @property {SavedPage} saved
 *
 * @typedef {object} OwnPicture
 * @property {Picture} picture What the network sees.
 * @property {Pixels} view The same as pixels.
 * @property {MapPayload} [map] What it makes of them.
 *
 * @typedef {object} OwnUi The page.
 * @property {OwnPicturesPayload} payload
 * @property {Record<string, HTMLElement>} nodes
 * @property {Partial<Record<Side, OwnPicture>>} pictures
 * @property {Network | null} network
 * @property {LiveView | null} live Where the pair is shown, once there is one.
 * @property {{pictures: Record<Side, Picture>, maps: Record<Side, MapPayload>} | null} shown
 * @property {string} reading The file that is read, or was the last.
 * @property {Promise<void>} work What the reader asked for, one after the other.
 */

/* own pair */
const OWN_SIDES = /** @type {Side[]} */ (["a", "b"]);

/**
 * Take pictures, and match them if there are two and a network. An error changes nothing.
 *
 * @param {OwnUi} ui
 * @param {Partial<Record<Side, OwnPicture>>} pictures
 */
async function takePictures(ui, pictures) {
  const { a, b } = pictures;
  const maps = ui.network && a && b ? await mapsOf(ui, ui.network, { a, b }) : null;
  ui.pictures = pictures;
  for (const side of OWN_SIDES) showChosen(ui, side);
  if (a && b && maps) showOwnPair(ui, { a: a.picture, b: b.picture }, maps);
}

/**
 * @param {OwnUi} ui
 * @param {Network} network
 * @param {Record<Side, OwnPicture>} pictures
 */
async function mapsOf({ nodes }, network, { a, b }) {
  nodes.status.textContent = "Matching ...";
  await new Promise((done) => setTimeout(done)); // the words are drawn first
  a.map ??= await network(a.view);
  b.map ??= await network(b.view);
  return packMaps({ a: a.map, b: b.map });
}

/**
 * @param {OwnUi} ui
 * @param {Record<Side, Picture>} pictures
 * @param {Record<Side, MapPayload>} maps
 */
function showOwnPair(ui, pictures, maps) {
  const { nodes, payload } = ui;
  ui.live ??= createLivePair(nodes.result, payload.controls, { notes: payload.notes });
  choosePlan(ui.live.controls, maps);
  ui.live.show({ pictures, solver: createPairSolver(maps) });
  ui.shown = { pictures, maps };
  nodes.save.removeAttribute("hidden");
}

/**
 * Cells in place need pictures of one shape; for others the plan is transport again.
 *
 * @param {PageControls} controls
 * @param {Record<Side, MapPayload>} maps
 */
function choosePlan({ values, set }, { a, b }) {
  const isOneShape = a.shape[1] === b.shape[1] && a.shape[2] === b.shape[2];
  if (values.plan === "aligned" && !isOneShape) set("plan", "transport");
}

/**
 * What the reader must still give; empty if a pair can be matched.
 *
 * @param {OwnUi} ui
 */
function missingText({ network, pictures }) {
  const needs = OWN_SIDES.filter((side) => !pictures[side]).map(
    (side) => `picture ${side.toUpperCase()}`,
  );
  if (!network) needs.push("the network");
  return needs.length > 0 ? `Still needed: ${needs.join(", ")}.` : "";
}

/* own files */
const ACCEPTED = "image/avif,image/bmp,image/gif,image/jpeg,image/png,image/webp"; // no SVG

/**
 * @param {OwnUi} ui
 * @param {File} file
 * @returns {Promise<OwnPicture>}
 */
async function readOwnPicture(ui, file) {
  ui.reading = file.name;
  ui.nodes.status.replaceChildren("Reading ", createNode("bdi", {}, file.name), " ...");
  const view = viewOf(await readPicture(file), ui.payload.network.side);
  const { width, height } = view;
  return { picture: { src: pngOf(view), label: file.name, width, height }, view };
}

/**
 * The name and the picture that were chosen, in their place.
 *
 * @param {OwnUi} ui
 * @param {Side} side
 */
function showChosen({ nodes, pictures }, side) {
  const chosen = pictures[side];
  if (!chosen) return;
  const { src, label } = chosen.picture;
  nodes[`name_${side}`].textContent = label;
  const image = createNode("img", { src, alt: "", class: "diml-thumbnail" });
  nodes[`image_${side}`].replaceChildren(image);
}

/**
 * Take files, the first as the given side, then match. If one of them is no picture, none is taken.
 *
 * @param {OwnUi} ui
 * @param {Side} side
 * @param {File[]} files
 */
function takeFiles(ui, side, files) {
  const sides = side === "a" ? OWN_SIDES : [...OWN_SIDES].reverse();
  enqueue(ui, async () => {
    if (files.length === 0) throw new Refusal("What was dropped is no file; save it as one first.");
    const pictures = { ...ui.pictures };
    for (const [i, file] of files.slice(0, 2).entries()) {
      pictures[sides[i]] = await readOwnPicture(ui, file);
    }
    await takePictures(ui, pictures);
    ui.nodes.alert.replaceChildren(...notTaken(files.slice(2)));
  });
}

/**
 * What is said of files for which there was no place.
 *
 * @param {File[]} files
 */
function notTaken(files) {
  if (files.length === 0) return [];
  const names = files.flatMap(({ name }) => [", ", createNode("bdi", {}, name)]).slice(1);
  return ["Two pictures were taken; ", ...names, files.length > 1 ? " were not." : " was not."];
}

/**
 * Do something after what was asked before, say how long it took or what stands against it.
 *
 * @param {OwnUi} ui
 * @param {() => Promise<void>} act
 */
function enqueue(ui, act) {
  ui.work = ui.work.then(async () => {
    const { alert, status } = ui.nodes;
    const start = performance.now();
    alert.textContent = "";
    try {
      await act();
      const seconds = ((performance.now() - start) / 1000).toFixed(2);
      status.textContent = missingText(ui) || `Matched in ${seconds} s, on this machine.`;
    } catch (error) {
      tellError(ui, error);
      status.textContent = missingText(ui);
    }
  });
}

/** @param {unknown} error */
function errorText(error) {
  const { message } = /** @type {Error} */ (error);
  return error instanceof Refusal ? message : `That did not work: ${message}`;
}

/**
 * @param {OwnUi} ui
 * @param {unknown} error
 */
function tellError({ nodes, reading }, error) {
  const text = errorText(error);
  // a name from right to left leaves the words after it in their order
  const isNamed = reading !== "" && text.startsWith(reading);
  const name = isNamed ? [createNode("bdi", {}, reading)] : [];
  nodes.alert.replaceChildren(...name, isNamed ? text.slice(reading.length) : text);
}

/**
 * A data address as a file, without asking anybody for it.
 *
 * @param {{src: string, label: string}} drawing
 */
function fileOf({ src, label }) {
  const [head, base64] = src.split(",");
  return new File([decodeBytes(base64)], label, { type: head.slice(5).split(";")[0] });
}

/* own network */
/**
 * Fetch the network; pictures may be chosen meanwhile.
 *
 * @param {OwnUi} ui
 */
async function askForNetwork(ui) {
  const { fetch_network: button, network_alert: alert, percent, progress } = ui.nodes;
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true"); // unlike a disabled button it keeps the focus
  alert.textContent = "";
  progress.setAttribute("value", "0");
  progress.removeAttribute("hidden");
  try {
    ui.network = await loadNetwork(ui.payload.network, (share) => {
      progress.setAttribute("value", String(share));
      percent.textContent = formatPercent(share);
    });
    button.textContent = "the network is here";
    enqueue(ui, () => takePictures(ui, ui.pictures));
  } catch (error) {
    button.setAttribute("aria-disabled", "false");
    alert.textContent = errorText(error);
  } finally {
    progress.setAttribute("hidden", "");
    percent.textContent = "";
  }
}

/* own layout */
/**
 * Create an element and note it by a name.
 *
 * @param {OwnUi} ui
 * @param {string} name
 * @param {string} tag
 * @param {Record<string, string | number | boolean>} attributes
 * @param {...(Node | string)} children
 */
function addElement(ui, name, tag, attributes, ...children) {
  const node = /** @type {HTMLElement} */ (createNode(tag, attributes, ...children));
  ui.nodes[name] = node;
  return node;
}

/**
 * A place where a picture is dropped, or chosen by the button in it.
 *
 * @param {OwnUi} ui
 * @param {Side} side
 */
function buildPlace(ui, side) {
  const input = /** @type {HTMLInputElement} */ (
    createNode("input", { type: "file", accept: ACCEPTED, "data-side": side })
  );
  const place = createNode(
    "label",
    { class: `diml-place diml-${side}` },
    addElement(ui, `image_${side}`, "span", { class: "diml-preview" }),
    createNode("b", {}, `${side.toUpperCase()}: `), // with spaces, for a screen reader
    addElement(ui, `name_${side}`, "bdi", {}, "no picture yet"),
    createNode("span", { class: "diml-choose" }, " choose or drop a picture"),
    input,
  );
  input.addEventListener("change", () => {
    takeFiles(ui, side, [...(input.files ?? [])]);
    input.value = ""; // the same file may be chosen again
  });
  acceptDrops(ui, place, side);
  markDrags(place);
  return place;
}

/**
 * @param {OwnUi} ui
 * @param {EventTarget} target
 * @param {Side} side
 */
function acceptDrops(ui, target, side) {
  target.addEventListener("dragover", (event) => event.preventDefault());
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const { dataTransfer } = /** @type {DragEvent} */ (event);
    takeFiles(ui, side, [...(dataTransfer?.files ?? [])]);
  });
}

/**
 * Show that a file would be dropped here.
 *
 * @param {Element} place
 */
function markDrags(place) {
  const mark = (/** @type {boolean} */ isOver) => place.classList.toggle("diml-over", isOver);
  place.addEventListener("dragover", () => mark(true));
  place.addEventListener("dragleave", (event) => {
    const next = /** @type {DragEvent} */ (event).relatedTarget;
    mark(place.contains(/** @type {Node | null} */ (next)));
  });
  place.addEventListener("drop", () => mark(false));
}

/** @param {OwnUi} ui */
function buildButtons(ui) {
  const bytes = ui.payload.network.parts.reduce((total, part) => total + part.bytes, 0);
  const fetchNetwork = `fetch the network (${(bytes / 1e6).toFixed(1)} MB)`;
  const button = { type: "button", class: "diml-button" };
  addElement(
    ui,
    "fetch_network",
    "button",
    { ...button, "data-tool": "fetch_network" },
    fetchNetwork,
  );
  const drawings = "take two drawings of the book";
  addElement(ui, "drawings", "button", { ...button, "data-tool": "drawings" }, drawings);
  const words = "save this pair as a page";
  ui.nodes.save = buildDownload("pair.html", words, "text/html", () => savedText(ui));
  ui.nodes.save.setAttribute("hidden", "");
  ui.nodes.fetch_network.addEventListener("click", () => askForNetwork(ui));
  ui.nodes.drawings.addEventListener("click", () => {
    const { a, b } = ui.payload.drawings;
    takeFiles(ui, "a", [fileOf(a), fileOf(b)]);
  });
}

/**
 * The page of the pair that is shown; empty without one.
 *
 * @param {OwnUi} ui
 */
function savedText({ payload, live, shown }) {
  const present = live?.present();
  if (!present || !shown) return "";
  const { pictures, maps } = shown;
  const { data, ...state } = present;
  const kept = { maps, table: null, fixed: {}, notes: payload.notes, ...state };
  return savePage(payload.saved, { pictures, data, live: kept });
}

/**
 * @param {HTMLElement} root
 * @param {OwnPicturesPayload} payload
 */
function showOwnPictures(root, payload) {
  /** @type {OwnUi} */
  const ui = {
    payload,
    nodes: {},
    pictures: {},
    network: null,
    live: null,
    shown: null,
    reading: "",
    work: Promise.resolve(),
  };
  buildButtons(ui);
  addElement(ui, "progress", "progress", { max: 1, value: 0, hidden: "", "aria-label": "fetched" });
  addElement(ui, "percent", "span", { class: "diml-percent", "aria-hidden": true });
  addElement(ui, "status", "p", { class: "diml-status", role: "status" });
  addElement(ui, "network_alert", "p", { class: "diml-alert", role: "alert" });
  addElement(ui, "alert", "p", { class: "diml-alert", role: "alert" });
  addElement(ui, "result", "div", {});
  const { nodes } = ui;
  const places = createNode("div", { class: "diml-places" });
  places.append(...OWN_SIDES.map((side) => buildPlace(ui, side)));
  const tools = createNode("div", { class: "diml-own-tools" });
  tools.append(nodes.fetch_network, nodes.drawings, nodes.save, nodes.progress, nodes.percent);
  root.append(places, tools, nodes.status, nodes.network_alert, nodes.alert, nodes.result);
  acceptDrops(ui, document, "a");
  const obstacle = networkObstacle();
  nodes.network_alert.textContent = obstacle; // apart, so that no word about a picture replaces it
  nodes.fetch_network.setAttribute("aria-disabled", String(obstacle !== ""));
  nodes.status.textContent = missingText(ui);
}

for (const { root, payload } of waitingRoots("own_pictures")) showOwnPictures(root, payload);
