/** The script of a page with pairs: each is shown, and matched again in the page where it can be. */

import { createNode } from "./dom.js";
import { waitingRoots } from "./page_controls.js";
import { createPairView } from "./pair.js";
import { answerPair, createPairSolver } from "./pair_answer.js";
import { addDownload, createLivePair } from "./pair_live.js";
import { readTable } from "./solver_match.js";

/**
 * @import {MapPayload} from "./solver_cells.js"
 * @import {PairAnswer, PairRequest} from "./pair_answer.js"
 * @import {PairPayload, Picture, Side} from "./pair_data.js"
 * @import {ControlPayload} from "./page_controls.js"
 * @import {ViewState} from "./pair_state.js"
 * @import {TablePayload} from "./solver_match.js"
 *
 * @typedef {object} LivePair What a page needs to match a pair without Python.
 * @property {Record<Side, MapPayload> | null} maps For any grid.
 * @property {TablePayload | null} table For the cells as they are, where there are no maps.
 * @property {ControlPayload[]} controls
 * @property {Partial<PairRequest>} fixed What no control says.
 * @property {Partial<ViewState>} view What the reader had done.
 * @property {string[]} notes Lines that stay below the pictures.
 *
 * @typedef {object} PagePayload
 * @property {Record<Side, Picture>} pictures
 * @property {PairPayload} data
 * @property {LivePair | null} live
 */

/* page pair */
/**
 * @param {HTMLElement} root
 * @param {PagePayload} payload
 */
function showPair(root, { pictures, data, live }) {
  if (live) {
    const { controls, ...options } = live;
    createLivePair(root, controls, options).show({ pictures, data, solver: solverOf(live) });
    return;
  }
  const box = /** @type {HTMLElement} */ (createNode("div"));
  const view = createPairView(box, () => {});
  root.append(box);
  view.update({ pictures, data });
  addDownload(box, view);
}

/**
 * @param {LivePair} live
 * @returns {(request: PairRequest) => PairAnswer}
 */
function solverOf({ maps, table }) {
  if (maps) return createPairSolver(maps);
  const known = readTable(/** @type {TablePayload} */ (table));
  return (request) => answerPair(known, request);
}

for (const { root, payload } of waitingRoots("pair")) showPair(root, payload);
