import assert from "node:assert/strict";
import { test } from "node:test";
import {
  candidateLabel,
  candidateRole,
  candidateText,
  moveText,
} from "../../diml_nb/viz/static/ranking.js";

const candidate = { index: 7, src: "", label: "owl", right: true, score: 0.98765, move: 2 };

test("a move shows its direction", () => {
  assert.equal(moveText(1), "\u25b21");
  assert.equal(moveText(-1), "\u25bc1");
  assert.equal(moveText(-2), "\u25bc2");
  assert.equal(moveText(0), "=");
});

test("a candidate in words", () => {
  assert.equal(candidateLabel(candidate, 1), "place 1: owl, right, score 0.9877, moved by 2");
  const before = { ...candidate, right: false, move: null };
  assert.equal(candidateLabel(before, 3), "place 3: owl, wrong, score 0.9877");
});

test("what stands below a thumbnail", () => {
  assert.equal(candidateText(candidate), "0.988 \u25b22");
  assert.equal(candidateText({ ...candidate, move: null }), "0.988 ");
});

test("a candidate that is chosen twice counts as the first", () => {
  assert.equal(candidateRole(candidate, { first: 7, second: 7, dropped: [] }), "first");
  assert.equal(candidateRole(candidate, { first: 1, second: 7, dropped: [] }), "second");
  assert.equal(candidateRole(candidate, { first: 1, second: null, dropped: [] }), "");
});
