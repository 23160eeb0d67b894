/** The script of a saved page: the view of the pair whose numbers stand in the page. */

import { createNode } from "./dom.js";
import { createPairView } from "./pair.js";

const root = /** @type {HTMLElement} */ (document.querySelector("main"));
const payload = /** @type {Element} */ (document.querySelector('script[type="application/json"]'));
const view = createPairView(root, () => {});
view.update(JSON.parse(payload.textContent ?? ""));

const attributes = { class: "diml-button", download: "flows.csv", href: "#" };
const link = /** @type {HTMLAnchorElement} */ (createNode("a", attributes, "download CSV"));
link.addEventListener("click", () => {
  link.href = URL.createObjectURL(new Blob([view.csv()], { type: "text/csv" }));
});
root.querySelector(".diml-export")?.append(link);
