import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeFloat32 } from "../../diml_nb/viz/static/dom.js";
import { hasFrames, sizeObstacle } from "../../diml_nb/viz/static/own_picture.js";
import { packMaps, turnVectors } from "../../diml_nb/viz/static/pack_maps.js";
import {
  encodeFloat32,
  jsonInHtml,
  savePage,
  textInHtml,
} from "../../diml_nb/viz/static/saved_page.js";
import { innerProduct, readMap } from "../../diml_nb/viz/static/solver_cells.js";

/**
 * @param {number} seed
 * @param {number} count
 */
function numbers(seed, count) {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(seed + 12.9898 * i ** 1.5));
}

test("turned vectors keep their inner products", () => {
  const vectors = [1, 2, 3, 4].map((seed) => Float64Array.from(numbers(seed, 30)));
  vectors.push(vectors[1].slice(), new Float64Array(30));
  const turned = turnVectors(vectors);
  for (const [i, x] of vectors.entries()) {
    for (const [j, y] of vectors.entries()) {
      assert.ok(Math.abs(innerProduct(turned[i], turned[j]) - innerProduct(x, y)) < 1e-9);
    }
  }
});

test("small maps get no more channels than they have", () => {
  /** @type {[number, number, number]} */
  const shape = [3, 2, 4];
  const maps = { a: { shape, values: numbers(5, 24) }, b: { shape, values: numbers(6, 24) } };
  const packed = packMaps(maps);
  assert.deepEqual([packed.a.shape, packed.b.shape], [shape, shape]);
  const places = [packed, maps].map(({ a, b }) => [...readMap(a).places, ...readMap(b).places]);
  for (const i of places[0].keys()) {
    for (const j of places[0].keys()) {
      const [now, before] = places.map((all) => innerProduct(all[i], all[j]));
      assert.ok(Math.abs(now - before) < 1e-5);
    }
  }
});

test("two equal maps stay equal, in as many channels as both have places", () => {
  /** @type {[number, number, number]} */
  const shape = [200, 2, 3];
  const map = { shape, values: numbers(5, 1200) };
  const { a, b } = packMaps({ a: map, b: map });
  assert.deepEqual(a.shape, [12, 2, 3]);
  const places = [a, b].map((one) => readMap(one).places);
  places[0].forEach((x, i) => {
    x.forEach((value, c) => {
      assert.ok(Math.abs(value - places[1][i][c]) < 1e-5);
    });
  });
});

test("numbers come back from base64", () => {
  const values = numbers(3, 50);
  assert.deepEqual(decodeFloat32(encodeFloat32(values)), values);
});

test("neither a label nor a title leaves its place in a saved page", () => {
  const hostile = "</script><img src=x onerror=alert(1)> DIML-P $& \"'";
  const marks = { title: "DIML-T", payload: '"DIML-P"', fallback: "DIML-F" };
  const text = '<title>DIML-T</title><script>"DIML-P"</script><p>DIML-F</p>';
  const picture = { src: "", label: hostile, width: 1, height: 1 };
  const data = { parts: { text: hostile }, text: "flows", notes: [], plan: numbers(1, 4) };
  const shown = /** @type {any} */ ({ pictures: { a: picture, b: picture }, data, live: null });
  const page = savePage({ text, marks }, shown);
  assert.equal(page.match(/<(?!\/?(title|script|p)>)/g), null);
  assert.equal(page.split("</script>").length, 2);
  const [, json] = page.split(/<\/?script>/);
  assert.equal(JSON.parse(json).pictures.a.label, hostile);
  assert.equal(typeof JSON.parse(json).data.plan, "string");
});

test("text and JSON hold no sign that HTML would read", () => {
  assert.doesNotMatch(jsonInHtml({ label: "<>&" }), /[<>&]/);
  assert.equal(textInHtml("<b>"), "&#60;b&#62;");
});

test("a picture of 100 megapixels is refused by a sentence that says what to do", () => {
  assert.equal(sizeObstacle("a.jpg", [8000, 6000]), "");
  assert.equal(
    sizeObstacle("a.jpg", [10000, 10000]),
    "a.jpg has 100 megapixels (10000 x 10000); this page reads at most 50. Make it smaller first.",
  );
});

test("so is a picture with a side that no canvas has", () => {
  assert.equal(sizeObstacle("a.jpg", [32767, 100]), "");
  assert.equal(
    sizeObstacle("a.jpg", [100, 70000]),
    "a.jpg is 100 x 70000 pixels; this page reads at most 32767 along a side. Make it smaller first.",
  );
});

test("a picture that ends too early has no frames, and nothing is read past its end", () => {
  const heads = [
    [],
    [..."GIF89a"],
    [..."\x89PNG\r\n\x1a\n"],
    [..."\x89PNG\r\n\x1a\n0000acTL"],
    [..."RIFF0000WEBPVP8X"],
  ];
  for (const head of heads) {
    assert.equal(hasFrames(Uint8Array.from(head, (sign) => sign.charCodeAt(0))), false);
  }
});
