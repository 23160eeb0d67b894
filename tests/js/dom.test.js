import assert from "node:assert/strict";
import { test } from "node:test";
import {
  decodeFloat32,
  formatPercent,
  formatScore,
  listenToTraits,
  maximum,
  range,
  sum,
  viridis,
} from "../../diml_nb/viz/static/dom.js";
import { encodeFloat32 } from "./payload.js";

test("range counts from 0", () => {
  assert.deepEqual(range(3), [0, 1, 2]);
  assert.deepEqual(range(0), []);
});

test("sums and maxima of nothing are 0", () => {
  assert.equal(sum([]), 0);
  assert.equal(sum([1, 2.5, -1]), 2.5);
  assert.equal(maximum([]), 0);
  assert.equal(maximum(new Float32Array([1, 3, 2])), 3);
});

test("the maximum of as many numbers as a fine plan has", () => {
  assert.equal(maximum(new Float32Array(784 ** 2).fill(0.5)), 0.5);
});

test("scores have four digits", () => {
  assert.equal(formatScore(0.12344), "0.1234");
  assert.equal(formatScore(-1), "-1.0000");
});

test("percents are rounded", () => {
  assert.equal(formatPercent(0.126), "13%");
  assert.equal(formatPercent(0.1264, 1), "12.6%");
});

test("float32 numbers arrive as they left", () => {
  const numbers = [0.1, -2, 1e-30];
  assert.deepEqual(decodeFloat32(encodeFloat32(numbers)), new Float32Array(numbers));
  assert.equal(decodeFloat32("AACAPwAAAMA=")[1], -2);
});

test("viridis begins dark, ends yellow, and stays there outside of 0 to 1", () => {
  assert.equal(viridis(0), "rgb(68,1,84)");
  assert.equal(viridis(1), "rgb(253,231,37)");
  assert.equal(viridis(-3), viridis(0));
  assert.equal(viridis(1.5), viridis(1));
});

test("viridis goes in a straight line between two stored colours", () => {
  assert.equal(viridis(1 / 16), "rgb(72,24,106)");
  assert.equal(viridis(1 / 32), "rgb(70,13,95)");
});

test("a listener to a trait hears its changes until it stops", () => {
  /** @type {Record<string, Set<() => void>>} */
  const heard = {};
  const model = {
    get: () => null,
    set: () => {},
    save_changes: () => {},
    on: (/** @type {string} */ event, /** @type {() => void} */ listener) => {
      heard[event] ??= new Set();
      heard[event].add(listener);
    },
    off: (/** @type {string} */ event, /** @type {() => void} */ listener) => {
      heard[event].delete(listener);
    },
  };
  let calls = 0;
  const stop = listenToTraits(model, {
    data: () => {
      calls += 1;
    },
  });
  for (const listener of heard["change:data"]) listener();
  assert.equal(calls, 1);
  stop();
  assert.equal(heard["change:data"].size, 0);
});

test("a score that rounds to nothing has no sign", () => {
  assert.equal(formatScore(-0.00001), "0.0000");
  assert.equal(formatScore(-0.0001), "-0.0001");
});
