/** The script of a page with plans of two cells and two cells. */

import { createNode } from "./dom.js";
import { waitingRoots } from "./page_controls.js";
import { showSmallPlan } from "./small_plan.js";

for (const { root, payload } of waitingRoots("small_plan")) {
  const el = /** @type {HTMLElement} */ (createNode("div"));
  root.append(el);
  showSmallPlan(el, payload, () => {});
}
