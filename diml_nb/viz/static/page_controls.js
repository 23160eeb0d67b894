/** What pages without Python share: the elements that wait for an explorer, and its controls. */

import { createNode, setAttributes } from "./dom.js";

/**
 * @import {WidgetModel} from "./dom.js"
 *
 * @typedef {object} ControlPayload A control as `control_payload` of the Python library describes it.
 * @property {string} name
 * @property {string} label
 * @property {string} tooltip
 * @property {"log" | "whole" | "choice"} kind
 * @property {any} value
 * @property {number} [low] Of a slider; on a logarithmic one an exponent of 10.
 * @property {number} [high]
 * @property {number} [step]
 * @property {[string, any][]} [options] Texts and values of a menu.
 *
 * @typedef {object} PageControls
 * @property {HTMLElement} node
 * @property {Record<string, any>} values They change with the controls.
 * @property {(name: string, value: any, options?: [string, any][]) => void} set Give a control a
 * value, a menu also its options; nobody is told.
 */

/* page explorers */
/**
 * The elements of a page that wait for their explorer, with what Python wrote for them.
 *
 * @param {string} kind
 * @returns {{root: HTMLElement, payload: any}[]}
 */
export function waitingRoots(kind) {
  const selector = `[data-diml-live="${kind}"]:not([data-diml-started])`;
  const roots = [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(selector))];
  return roots.map((root) => {
    root.dataset.dimlStarted = "";
    const json = root.querySelector('script[type="application/json"]');
    const payload = JSON.parse(json?.textContent ?? "");
    root.replaceChildren(...(json ? [json] : []));
    return { root, payload };
  });
}

/**
 * The traits of a widget where no Python is: what a view asks for, and who hears of its changes.
 *
 * @param {Record<string, any>} values
 * @param {() => void} onSave called when a view saves what its reader did
 * @returns {WidgetModel}
 */
export function createModel(values, onSave) {
  /** @type {Record<string, Set<() => void>>} */
  const listeners = {};
  return {
    get: (name) => values[name],
    set: (name, value) => {
      values[name] = value;
      for (const listener of listeners[`change:${name}`] ?? []) listener();
    },
    save_changes: onSave,
    on: (event, listener) => {
      listeners[event] ??= new Set();
      listeners[event].add(listener);
    },
    off: (event, listener) => {
      listeners[event]?.delete(listener);
    },
  };
}

/**
 * Do something at most once before the next frame is drawn.
 *
 * @param {() => void} act
 */
export function oncePerFrame(act) {
  let isWaiting = false;
  return () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      act();
    });
  };
}

/* page controls */
/**
 * Controls of a page, with the names and ranges of those in a notebook.
 *
 * @param {ControlPayload[]} controls
 * @param {(name: string) => void} onChange
 * @returns {PageControls}
 */
export function createControls(controls, onChange) {
  /** @type {Record<string, any>} */
  const values = {};
  const node = /** @type {HTMLElement} */ (
    createNode("div", { class: "diml-controls", role: "group", "aria-label": "controls" })
  );
  const place = (/** @type {ControlPayload} */ control) => {
    values[control.name] = control.value;
    return buildControl(control, (value) => {
      values[control.name] = value;
      onChange(control.name);
    });
  };
  const known = new Map(controls.map((control) => [control.name, control]));
  const labels = new Map(controls.map((control) => [control.name, place(control)]));
  node.append(...labels.values());
  return {
    node,
    values,
    set: (name, value, options = known.get(name)?.options) => {
      const control = /** @type {ControlPayload} */ (known.get(name));
      const label = place({ ...control, value, options });
      labels.get(name)?.replaceWith(label);
      labels.set(name, label);
    },
  };
}

/**
 * @param {ControlPayload} control
 * @param {(value: any) => void} onInput
 */
function buildControl(control, onInput) {
  const { label, tooltip } = control;
  const input = control.kind === "choice" ? buildMenu(control) : buildSlider(control);
  const output = createNode("output");
  const show = (/** @type {any} */ value) => {
    const text = valueText(control, value);
    output.textContent = text;
    // a screen reader would read the exponent
    if (control.kind === "log") setAttributes(input, { "aria-valuetext": text });
  };
  show(control.value);
  input.addEventListener("input", () => {
    const value = readValue(control, input);
    show(value);
    onInput(value);
  });
  const parts = control.kind === "choice" ? [label, input] : [label, input, output];
  return createNode("label", { class: "diml-control", title: tooltip }, ...parts);
}

/** @param {ControlPayload} control */
function buildMenu({ name, options = [], value }) {
  const menu = /** @type {HTMLSelectElement} */ (createNode("select", { "data-control": name }));
  menu.append(...options.map(([text], i) => createNode("option", { value: i }, text)));
  menu.selectedIndex = options.findIndex(([, one]) => one === value);
  return menu;
}

/** @param {ControlPayload} control */
function buildSlider({ name, kind, value, low = 0, high = 1, step = 1 }) {
  const at = kind === "log" ? Math.log10(value) : value;
  const attributes = { type: "range", min: low, max: high, step, value: at, "data-control": name };
  return /** @type {HTMLInputElement} */ (createNode("input", attributes));
}

/**
 * @param {ControlPayload} control
 * @param {HTMLInputElement | HTMLSelectElement} input
 */
function readValue({ kind, options = [] }, input) {
  if (kind === "choice") return options[/** @type {HTMLSelectElement} */ (input).selectedIndex][1];
  return kind === "log" ? 10 ** Number(input.value) : Number(input.value);
}

/**
 * @param {{kind: ControlPayload["kind"]}} control
 * @param {any} value
 */
export function valueText({ kind }, value) {
  return kind === "log" ? String(Number(value.toPrecision(3))) : String(value);
}
