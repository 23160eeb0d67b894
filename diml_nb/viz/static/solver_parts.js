/** A similarity as a sum of a few parts, as `parts` of the Python library finds them. */

import { range, sum } from "./dom.js";
import { roundHalfEven } from "./solver_cells.js";
import { symmetricEigen } from "./solver_eigen.js";
import { contributionsOf, largestOf } from "./solver_match.js";

/**
 * @import {Face, Side} from "./pair_data.js"
 * @import {Grid} from "./pair_data.js"
 * @import {PairMatch} from "./solver_match.js"
 *
 * @typedef {object} Points The cells of A, then those of B; those that exchange much lie close.
 * @property {Float64Array[]} places
 * @property {Float64Array} weights What each cell exchanges.
 *
 * @typedef {Record<Side, number[]>} Labels The part of each cell; -1 for none.
 *
 * @typedef {object} FoundParts
 * @property {Labels} label
 * @property {number[]} contributions What the flows within each part add to S.
 * @property {number[]} masses That move within each part.
 * @property {Record<Side, number[]>} cellMasses Of all cells of each part.
 * @property {Record<Side, number[]>} strengths What each cell adds within its part.
 * @property {number} similarity
 * @property {number} rest
 * @property {number} chance The share of S within the parts if cells were drawn at random.
 * @property {number} gain The share of S within the parts, less chance: their modularity.
 * @property {string} note That there is no structure.
 */

const MAX_PARTS = 5;
const MIN_PART = 0.02; // of S, within each part
const MIN_GAIN = 0.3; // the least modularity of parts
const SMALLEST = 2.2250738585072014e-308; // normal float64

/* spectral points */
/**
 * In `count` coordinates, of weights (N, M) that are not negative.
 *
 * @param {Float64Array} weights
 * @param {number} n
 * @param {number} m
 * @param {number} count
 * @returns {Points}
 */
function spectralPoints(weights, n, m, count) {
  const rowSum = range(n).map((i) => sum(weights.subarray(i * m, (i + 1) * m)));
  const columnSum = range(m).map((j) => sum(range(n).map((i) => weights[i * m + j])));
  // a cell without flows gets no place of its own
  const [rowRoot, columnRoot] = [rowSum, columnSum].map((sums) =>
    sums.map((x) => Math.sqrt(x > 0 ? x : 1)),
  );
  const scaled = range(n).map((i) =>
    Float64Array.from(columnRoot, (root, j) => weights[i * m + j] / rowRoot[i] / root),
  );
  const { values, vectors } = symmetricEigen(squareOf(scaled));
  // the last pair of vectors is the same for all weights
  const order = range(n).sort((i, j) => values[j] - values[i]);
  const axes = order.slice(1, 1 + count).map((k) => {
    const singular = Math.sqrt(Math.max(values[k], 1e-12));
    const u = vectors[k];
    const v = columnRoot.map((_, j) => sum(range(n).map((i) => scaled[i][j] * u[i])) / singular);
    return [...Array.from(u, (x, i) => x / rowRoot[i]), ...v.map((x, j) => x / columnRoot[j])];
  });
  const places = range(n + m).map((i) => Float64Array.from(axes, (axis) => axis[i]));
  return { places, weights: Float64Array.from([...rowSum, ...columnSum]) };
}

/**
 * The inner products of the rows of a matrix.
 *
 * @param {Float64Array[]} rows
 */
function squareOf(rows) {
  const square = rows.map(() => new Float64Array(rows.length));
  rows.forEach((x, i) => {
    for (let j = 0; j <= i; j++) {
      let total = 0;
      for (let k = 0; k < x.length; k++) total += x[k] * rows[j][k];
      square[i][j] = total;
      square[j][i] = total;
    }
  });
  return square;
}

/* clusters */
/**
 * Where k-means begins: each time the place with the most weight times squared distance.
 *
 * @param {Points} points
 * @param {number} k
 */
function farthestPlaces({ places, weights }, k) {
  const total = sum(weights);
  const mean = places[0].map(
    (_, d) => places.reduce((x, place, i) => x + weights[i] * place[d], 0) / total,
  );
  let distances = places.map((place) => squaredDistance(place, mean));
  /** @type {Float64Array[]} */
  const chosen = [];
  while (chosen.length < k) {
    const scores = distances.map((distance, i) => weights[i] * distance);
    const next = places[largestOf(scores, 0, 1, scores.length)];
    chosen.push(next);
    const fromNext = places.map((place) => squaredDistance(place, next));
    distances = chosen.length === 1 ? fromNext : fromNext.map((x, i) => Math.min(x, distances[i]));
  }
  return chosen;
}

/**
 * @param {Float64Array} x
 * @param {Float64Array} y
 */
function squaredDistance(x, y) {
  return x.reduce((total, value, d) => total + (value - y[d]) ** 2, 0);
}

/**
 * The group of each point, by k-means with weights.
 *
 * @param {Points} points
 * @param {number} k
 * @returns {number[]}
 */
function cluster(points, k) {
  let centers = farthestPlaces(points, k);
  /** @type {number[]} */
  let groups = [];
  for (let round = 0; round < 100; round++) {
    const next = points.places.map((place) => {
      const nearness = centers.map((center) => -squaredDistance(place, center));
      return largestOf(nearness, 0, 1, k);
    });
    if (next.every((group, i) => group === groups[i])) break;
    groups = next;
    centers = centers.map((center, group) => meanOf(points, groups, group) ?? center);
  }
  return groups;
}

/**
 * @param {Points} points
 * @param {number[]} groups
 * @param {number} group
 */
function meanOf({ places, weights }, groups, group) {
  const members = range(places.length).filter((i) => groups[i] === group);
  const total = sum(members.map((i) => weights[i]));
  if (total <= 0) return null;
  return places[0].map((_, d) => sum(members.map((i) => weights[i] * places[i][d])) / total);
}

/* cuts */
/**
 * Sums of the flows within each of k parts.
 *
 * @param {Float64Array} values
 * @param {Labels} label
 * @param {number} k
 */
function withinSums(values, { a, b }, k) {
  const sums = Array(k).fill(0);
  a.forEach((part, n) => {
    if (part < 0) return;
    b.forEach((other, m) => {
      if (other === part) sums[part] += values[n * b.length + m];
    });
  });
  return sums;
}

/**
 * Labels of at most k parts, the one with the largest sum first. A cell without flows is of no
 * part, nor is a group with less than `MIN_PART` of the sum of all values.
 *
 * @param {Float64Array} values
 * @param {Points} points
 * @param {number} n how many cells A has
 * @param {number} k
 * @returns {Labels}
 */
function cut(values, { places, weights }, n, k) {
  const groups = cluster({ places: places.map((x) => x.subarray(0, k - 1)), weights }, k);
  const labels = groups.map((group, i) => (weights[i] > 0 ? group : -1));
  const sums = withinSums(values, { a: labels.slice(0, n), b: labels.slice(n) }, k);
  const smallest = MIN_PART * sum(values);
  const rank = Array(k).fill(-1);
  range(k)
    .sort((i, j) => sums[j] - sums[i])
    .forEach((group, place) => {
      if (sums[group] > 0 && sums[group] >= smallest) rank[group] = place;
    });
  const ranked = labels.map((group) => (group < 0 ? -1 : rank[group]));
  return { a: ranked.slice(0, n), b: ranked.slice(n) };
}

/**
 * Labels of a single part; -1 for cells without flows, unless no cell has any.
 *
 * @param {Float64Array} values
 * @param {number} n
 * @param {number} m
 * @returns {Labels}
 */
function onePart(values, n, m) {
  const isIdle = values.every((value) => value === 0);
  const hasFlows = (/** @type {number} */ i) => isIdle || values[i] !== 0;
  return {
    a: range(n).map((i) => Number(range(m).some((j) => hasFlows(i * m + j))) - 1),
    b: range(m).map((j) => Number(range(n).some((i) => hasFlows(i * m + j))) - 1),
  };
}

/* found parts */
/**
 * The numbers of parts whose labels are known.
 *
 * @param {PairMatch} match
 * @param {Labels} label
 * @param {string} [note]
 * @returns {FoundParts}
 */
function labelledParts(match, label, note = "") {
  const values = contributionsOf(match);
  const k = Math.max(...label.a, ...label.b) + 1;
  const contributions = withinSums(values, label, k);
  const similarity = sum(values);
  return {
    label,
    contributions,
    masses: withinSums(match.plan, label, k),
    cellMasses: {
      a: partMasses(match.massA, label.a, k),
      b: partMasses(match.massB, label.b, k),
    },
    strengths: cellStrengths(values, label),
    similarity,
    rest: similarity - sum(contributions),
    ...chanceAndGain(values, label, k),
    note,
  };
}

/**
 * @param {Float64Array} mass
 * @param {number[]} label
 * @param {number} k
 */
function partMasses(mass, label, k) {
  return range(k).map((part) => sum(mass.map((value, n) => (label[n] === part ? value : 0))));
}

/**
 * What each cell adds by its flows within its part.
 *
 * @param {Float64Array} values
 * @param {Labels} label
 * @returns {Record<Side, number[]>}
 */
function cellStrengths(values, { a, b }) {
  const within = (/** @type {number} */ n, /** @type {number} */ m) =>
    a[n] >= 0 && a[n] === b[m] ? values[n * b.length + m] : 0;
  return {
    a: a.map((_, n) => sum(b.map((_part, m) => within(n, m)))),
    b: b.map((_, m) => sum(a.map((_part, n) => within(n, m)))),
  };
}

/**
 * The share within parts by chance, and what there is above it; of values above 0.
 *
 * @param {Float64Array} values
 * @param {Labels} label
 * @param {number} k
 */
function chanceAndGain(values, label, k) {
  const positive = values.map((value) => Math.max(value, 0));
  const total = Math.max(sum(positive), SMALLEST);
  const m = label.b.length;
  const rows = label.a.map((_, i) => sum(positive.subarray(i * m, (i + 1) * m)) / total);
  const columns = label.b.map(
    (_, j) => sum(label.a.map((_part, i) => positive[i * m + j])) / total,
  );
  const byRow = partMasses(Float64Array.from(rows), label.a, k);
  const byColumn = partMasses(Float64Array.from(columns), label.b, k);
  const chance = sum(byRow.map((share, part) => share * byColumn[part]));
  return { chance, gain: sum(withinSums(positive, label, k)) / total - chance };
}

/**
 * The parts of a matched pair: groups of cells of A and of B between which little flows. As many,
 * up to `MAX_PARTS`, as have the largest gain; one where there is no structure.
 *
 * @param {PairMatch} match
 * @param {number} [minGain]
 * @returns {FoundParts}
 */
export function findParts(match, minGain = MIN_GAIN) {
  const values = contributionsOf(match);
  const [n, m] = [match.massA.length, match.massB.length];
  const most = Math.min(MAX_PARTS, n, m);
  const positive = values.map((value) => Math.max(value, 0));
  const points = spectralPoints(positive, n, m, most - 1);
  const tried = range(most - 1)
    .map((i) => cut(values, points, n, i + 2))
    .filter(({ a }) => Math.max(...a) >= 0)
    .map((label) => labelledParts(match, label));
  const gains = tried.map((found) => (found.contributions.length > 1 ? found.gain : 0));
  const best = gains.length > 0 ? largestOf(gains, 0, 1, gains.length) : -1;
  const hasShares = sum(values) > 0;
  if (best >= 0 && gains[best] >= minGain && hasShares) return tried[best];
  const note = hasShares
    ? "no structure: the flows do not fall into parts"
    : "the similarity is not above 0, so parts have no shares of it";
  return labelledParts(match, onePart(values, n, m), note);
}

/* faces */
/**
 * Where a part is strongest in a picture: a window of about a quarter of each side.
 *
 * @param {number[]} label
 * @param {number[]} strengths
 * @param {Grid} grid
 * @param {number} k
 * @returns {Face}
 */
export function partFace(label, strengths, [rows, columns], k) {
  const [height, width] = [rows, columns].map((side) => Math.max(1, roundHalfEven(side / 4)));
  const across = columns - width + 1;
  const sums = range((rows - height + 1) * across).map((place) => {
    const [top, left] = [Math.floor(place / across), place % across];
    const inside = range(height * width).map(
      (i) => (top + Math.floor(i / width)) * columns + left + (i % width),
    );
    return sum(inside.map((n) => (label[n] === k ? strengths[n] : 0)));
  });
  const best = largestOf(sums, 0, 1, sums.length);
  const [top, left] = [Math.floor(best / across), best % across];
  return [left / columns, top / rows, (left + width) / columns, (top + height) / rows];
}
