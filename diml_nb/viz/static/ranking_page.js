/** The script of a page with a gallery: lists, reasons and pairs, computed in the page. */

import { createNode } from "./dom.js";
import { readGallery } from "./gallery_data.js";
import { queriesByGain } from "./gallery_lists.js";
import { createControls, createModel, oncePerFrame, waitingRoots } from "./page_controls.js";
import { answerPair } from "./pair_answer.js";
import { createLivePair } from "./pair_live.js";
import { renderRanking } from "./ranking.js";
import { createGallerySolver } from "./ranking_answer.js";

/**
 * @import {Gallery, GalleryImage, GalleryPayload} from "./gallery_data.js"
 * @import {GalleryRule} from "./gallery_lists.js"
 * @import {ControlPayload, PageControls} from "./page_controls.js"
 * @import {LiveView} from "./pair_live.js"
 * @import {Choice} from "./ranking.js"
 * @import {GallerySolver, RankingAnswer} from "./ranking_answer.js"
 *
 * @typedef {object} RankingPayload
 * @property {GalleryImage[]} images
 * @property {GalleryPayload} gallery
 * @property {{values: (number | null)[], rule: GalleryRule}} gains `null`: without another image of
 * its class.
 * @property {number} n_shown How many candidates of a list are shown.
 * @property {ControlPayload[]} controls
 * @property {ControlPayload[]} pair_controls
 * @property {Choice} choice
 * @property {number} side Of a picture in pixels.
 * @property {string[]} notes
 */

/* page gallery */
/**
 * @typedef {object} RankingUi
 * @property {Gallery} gallery
 * @property {GallerySolver} solver
 * @property {ReturnType<typeof createModel>} model
 * @property {PageControls} controls
 * @property {LiveView} pair
 * @property {number} side
 * @property {string} opened Query and candidate of the pair.
 */

/**
 * @param {HTMLElement} root
 * @param {RankingPayload} payload
 */
function showRanking(root, payload) {
  const gallery = readGallery(payload.images, payload.gallery);
  const values = payload.gains.values.map((gain) => gain ?? Number.NaN);
  const gains = { values, rule: payload.gains.rule };
  const [el, pairBox] = ["div", "div"].map((tag) => /** @type {HTMLElement} */ (createNode(tag)));
  const ui = /** @type {RankingUi} */ ({
    gallery,
    solver: createGallerySolver(gallery, payload.n_shown, gains),
    side: payload.side,
    opened: "",
  });
  const redraw = oncePerFrame(() => update(ui));
  ui.model = createModel({ lists: null, reason: null, value: payload.choice }, redraw);
  ui.controls = createControls(payload.controls, (name) => {
    followControl(ui, name);
    redraw();
  });
  ui.controls.node.append(buildRankButton(ui));
  root.append(ui.controls.node, el, pairBox);
  ui.pair = createLivePair(pairBox, payload.pair_controls, { notes: payload.notes });
  update(ui);
  renderRanking({ model: ui.model, el });
}

/**
 * After a change of a control: another rule has other parts, so none is dropped, and the pair is
 * matched as the gallery is.
 *
 * @param {RankingUi} ui
 * @param {string} name
 */
function followControl(ui, name) {
  if (name === "plan") ui.pair.controls.set("plan", ui.controls.values.plan);
  if (name === "show") filterQueries(ui);
  else restoreParts(ui);
}

/** @param {RankingUi} ui */
function restoreParts({ model }) {
  model.set("value", { ...model.get("value"), dropped: [] });
}

/**
 * Only queries of the chosen kind can be chosen; all, where there is none. Another query has other
 * parts.
 *
 * @param {RankingUi} ui
 */
function filterQueries(ui) {
  const { controls, solver, gallery } = ui;
  const { show, query } = controls.values;
  const some = queriesByGain(solver.gains(), show);
  const queries = some.length > 0 ? some : [...gallery.images.keys()];
  const isThere = queries.includes(query);
  controls.set(
    "query",
    isThere ? query : queries[0],
    queries.map((n) => [gallery.images[n].name, n]),
  );
  if (!isThere) restoreParts(ui);
}

/**
 * Ask for what the controls and the choice want, and show it.
 *
 * @param {RankingUi} ui
 */
function update(ui) {
  const { show, query, ...rule } = ui.controls.values;
  const choice = ui.model.get("value");
  const request = { show, query, rule: /** @type {GalleryRule} */ (rule), choice };
  const answer = ui.solver.answer(request);
  ui.model.set("value", answer.choice);
  ui.model.set("reason", answer.reason);
  ui.model.set("lists", answer.lists);
  openPair(ui, query, answer);
}

/**
 * Show the query and the chosen candidate, among the other candidates, as a pair.
 *
 * @param {RankingUi} ui
 * @param {number} query
 * @param {RankingAnswer} answer
 */
function openPair(ui, query, { choice, found }) {
  const { gallery, side } = ui;
  const { grid, marginals, eps } = ui.controls.values;
  ui.pair.setRule({ grid, marginals, eps });
  const first = /** @type {number} */ (choice.first);
  const opened = `${query} ${first}`;
  if (opened === ui.opened) return;
  ui.opened = opened;
  const picture = (/** @type {number} */ n) => {
    const { src, name } = gallery.images[n];
    return { src, label: name, width: side, height: side };
  };
  const tables = found.candidates.map((n) => gallery.tableOf(query, n));
  const position = found.candidates.indexOf(first);
  ui.pair.show({
    pictures: { a: picture(query), b: picture(first) },
    solver: (request) => answerPair(tables[position], request, { tables, position }),
  });
}

/**
 * A button that decides anew who is helped and hurt, some queries in each frame.
 *
 * @param {RankingUi} ui
 */
function buildRankButton(ui) {
  const title = "decide anew who is helped and hurt";
  const button = /** @type {HTMLButtonElement} */ (
    createNode("button", { type: "button", class: "diml-rank", title }, "rank all again")
  );
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true"); // unlike a disabled button it keeps the focus
    try {
      await rankAll(ui, (text) => {
        button.textContent = text;
      });
    } finally {
      button.setAttribute("aria-disabled", "false");
      button.textContent = "rank all again";
    }
  });
  return button;
}

/**
 * @param {RankingUi} ui
 * @param {(text: string) => void} onProgress
 */
async function rankAll(ui, onProgress) {
  const { show: _show, query: _query, ...rule } = ui.controls.values;
  const total = ui.gallery.images.length;
  let last = performance.now();
  for (const done of ui.solver.rankAll(/** @type {GalleryRule} */ (rule))) {
    if (performance.now() - last < 30) continue;
    onProgress(`ranked ${done} of ${total}`);
    await new Promise((resolve) => setTimeout(resolve));
    last = performance.now();
  }
  filterQueries(ui);
  update(ui);
}

for (const { root, payload } of waitingRoots("ranking")) showRanking(root, payload);
