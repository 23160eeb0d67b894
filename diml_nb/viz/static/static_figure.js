/** Hides the static figure of an explorer on its page as long as the explorer itself is shown. */

/** @import {RenderContext} from "./dom.js" */

/**
 * @param {string} id
 * @param {string} display
 */
function setDisplay(id, display) {
  for (const node of document.querySelectorAll(`[data-diml-static="${id}"]`)) {
    /** @type {HTMLElement} */ (node).style.display = display;
  }
}

/**
 * The figure may be put on the page shortly after the widget, so it is hidden a second time.
 *
 * @param {RenderContext} context
 * @returns {() => void} shows the figure again
 */
function render({ model }) {
  const id = model.get("static");
  setDisplay(id, "none");
  const timer = setTimeout(() => setDisplay(id, "none"), 500);
  return () => {
    clearTimeout(timer);
    setDisplay(id, "");
  };
}

export default { render };
