import assert from "node:assert/strict";
import { test } from "node:test";
import {
  cropCenter,
  cubic,
  nearSize,
  normalize,
  resize,
  sideTaps,
  viewOf,
} from "../../diml_nb/viz/static/resample.js";

/**
 * @param {number} width
 * @param {number} height
 * @param {(x: number, y: number) => number[]} colorAt
 */
function picture(width, height, colorAt) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < width * height; i++) {
    data.set([...colorAt(i % width, Math.floor(i / width)), 255], 4 * i);
  }
  return { width, height, data };
}

test("the curve is 1 in its middle and 0 at other whole numbers", () => {
  assert.deepEqual(
    [0, 1, -1, 2, 2.5].map((x) => Math.abs(cubic(x))),
    [1, 0, 0, 0, 0],
  );
  assert.equal(cubic(0.3), cubic(-0.3));
});

test("the weights of a new place sum to one, at the edges too", () => {
  for (const [size, newSize] of [
    [100, 7],
    [7, 100],
    [5, 5],
  ]) {
    for (const { first, weights } of sideTaps(size, newSize)) {
      const total = weights.reduce((x, y) => x + y, 0) / 2 ** 22;
      assert.ok(Math.abs(total - 1) < 1e-5);
      assert.ok(first >= 0 && first + weights.length <= size);
    }
  }
});

test("where a side shrinks, every old place counts", () => {
  const seen = new Set();
  for (const { first, weights } of sideTaps(900, 40)) {
    weights.forEach((weight, k) => {
      if (weight !== 0) seen.add(first + k);
    });
  }
  assert.equal(seen.size, 900);
});

test("one colour stays one colour in any size", () => {
  const { data } = resize(
    picture(19, 11, () => [250, 3, 128]),
    [8, 40],
  );
  for (let i = 0; i < data.length; i += 4) {
    assert.deepEqual([...data.subarray(i, i + 4)], [250, 3, 128, 255]);
  }
});

test("a picture of the right size is not touched", () => {
  const one = picture(6, 4, (x, y) => [40 * x, 60 * y, 7]);
  assert.equal(resize(one, [6, 4]).data, one.data);
});

test("values beyond white and black are cut", () => {
  const edge = picture(8, 1, (x) => (x < 4 ? [0, 0, 0] : [255, 255, 255]));
  const { data } = resize(edge, [80, 1]);
  const reds = [...data].filter((_, i) => i % 4 === 0);
  assert.deepEqual([Math.min(...reds), Math.max(...reds)], [0, 255]);
});

test("a turned picture is resized as the picture is, then turned", () => {
  const one = picture(9, 9, (x, y) => [20 * x, 17 * y, 3 * x * y]);
  const turned = picture(9, 9, (x, y) => [20 * y, 17 * x, 3 * x * y]);
  const [a, b] = [resize(one, [4, 4]).data, resize(turned, [4, 4]).data];
  for (let y = 0; y < 4; y++) {
    for (let x = 0; x < 4; x++) {
      // each side is rounded to 8 bits before the other one is resized
      assert.ok(Math.abs(a[4 * (4 * y + x)] - b[4 * (4 * x + y)]) <= 1);
    }
  }
});

test("what is cut off a picture is the same at both ends, a half goes to the even number", () => {
  const row = picture(7, 1, (x) => [x, 0, 0]);
  const reds = (/** @type {number} */ width) =>
    [...cropCenter(row, [width, 1]).data].filter((_, i) => i % 4 === 0);
  assert.deepEqual(reds(3), [2, 3, 4]);
  assert.deepEqual(reds(2), [2, 3]); // 2.5
  assert.deepEqual(reds(4), [2, 3, 4, 5]); // 1.5
});

test("a view has sides that the network takes, and about as many pixels", () => {
  assert.deepEqual(nearSize([500, 500], 224), [224, 224]);
  for (const size of /** @type {[number, number][]} */ ([
    [4000, 3000],
    [1080, 1920],
    [10, 10000],
  ])) {
    const [width, height] = nearSize(size, 224);
    assert.equal(width % 32, 0);
    assert.equal(height % 32, 0);
    assert.ok(Math.abs(width * height - 224 ** 2) < 0.25 * 224 ** 2);
  }
});

test("a ribbon is no reason to fill the memory", () => {
  const { width, height } = viewOf(
    picture(40000, 2, () => [1, 2, 3]),
    224,
  );
  assert.deepEqual([width, height], nearSize([40000, 2], 224));
});

test("grey becomes 0, white becomes 1", () => {
  const one = picture(1, 2, (_, y) => (y ? [255, 255, 255] : [0, 0, 0]));
  const half = [0.5, 0.5, 0.5];
  assert.deepEqual([...normalize(one, { mean: half, std: half })], [-1, 1, -1, 1, -1, 1]);
});
