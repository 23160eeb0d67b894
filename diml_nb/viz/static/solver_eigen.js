/** Eigenvectors of a symmetric matrix: Householder's reflections, then QR steps with shifts. */

import { range, sum } from "./dom.js";

/**
 * @typedef {object} Eigen
 * @property {Float64Array} values In no order.
 * @property {Float64Array[]} vectors A unit vector for each of them.
 */

/* eigenvectors */
/**
 * Golub and Van Loan, Matrix Computations, section 8.3.
 *
 * @param {Float64Array[]} matrix symmetric; it is overwritten
 * @returns {Eigen}
 */
export function symmetricEigen(matrix) {
  const size = matrix.length;
  // row k: the kth basis vector in which the matrix is tridiagonal
  const vectors = reflect(matrix);
  const values = Float64Array.from(matrix, (row, k) => row[k]);
  const beside = Float64Array.from({ length: size }, (_, k) => matrix[k][k + 1] ?? 0);
  let last = size - 1;
  while (last > 0) {
    clearSmall(values, beside);
    if (beside[last - 1] === 0) {
      last -= 1;
    } else {
      const first = beside.lastIndexOf(0, last - 1) + 1;
      chaseBulge(values, beside, vectors, first, last);
    }
  }
  return { values, vectors };
}

/**
 * What is lost in the rounding of the diagonal counts as 0.
 *
 * @param {Float64Array} values
 * @param {Float64Array} beside
 */
function clearSmall(values, beside) {
  for (let k = 0; k + 1 < values.length; k++) {
    const scale = Math.abs(values[k]) + Math.abs(values[k + 1]);
    if (Math.abs(beside[k]) <= 1e-16 * scale + 1e-300) beside[k] = 0;
  }
}

/**
 * Make a symmetric matrix tridiagonal, in place.
 *
 * @param {Float64Array[]} matrix
 * @returns {Float64Array[]} the basis vectors, one a row
 */
function reflect(matrix) {
  const size = matrix.length;
  const basis = range(size).map((i) =>
    Float64Array.from({ length: size }, (_, j) => Number(i === j)),
  );
  for (let k = 0; k + 2 < size; k++) {
    const v = matrix[k].map((x, j) => (j > k ? x : 0));
    const norm = Math.sqrt(sum(v.map((x) => x * x)));
    v[k + 1] += v[k + 1] < 0 ? -norm : norm;
    const square = sum(v.map((x) => x * x));
    if (square > 0) {
      reflectBoth(matrix, v, square);
      reflectBasis(basis, v, square);
    }
  }
  return basis;
}

/**
 * H B for the same reflection.
 *
 * @param {Float64Array[]} basis
 * @param {Float64Array} v
 * @param {number} square v^T v
 */
function reflectBasis(basis, v, square) {
  const dots = new Float64Array(v.length);
  basis.forEach((row, i) => {
    for (let j = 0; j < v.length; j++) dots[j] += v[i] * row[j];
  });
  basis.forEach((row, i) => {
    for (let j = 0; j < v.length; j++) row[j] -= (2 * dots[j] * v[i]) / square;
  });
}

/**
 * H A H for the reflection H = 1 - 2 v v^T / (v^T v).
 *
 * @param {Float64Array[]} matrix
 * @param {Float64Array} v
 * @param {number} square v^T v
 */
function reflectBoth(matrix, v, square) {
  const size = v.length;
  const p = v.map((_, i) => {
    let total = 0;
    for (let j = 0; j < size; j++) total += matrix[i][j] * v[j];
    return total / square;
  });
  let dot = 0;
  for (let i = 0; i < size; i++) dot += v[i] * p[i];
  const w = p.map((x, i) => 2 * (x - (dot * v[i]) / square));
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) matrix[i][j] -= v[i] * w[j] + w[i] * v[j];
  }
}

/**
 * One implicit QR step with Wilkinson's shift on the block from `first` to `last`.
 *
 * @param {Float64Array} values the diagonal
 * @param {Float64Array} beside the entries above it
 * @param {Float64Array[]} vectors
 * @param {number} first
 * @param {number} last
 */
function chaseBulge(values, beside, vectors, first, last) {
  const half = (values[last - 1] - values[last]) / 2;
  const corner = beside[last - 1];
  const root = Math.hypot(half, corner);
  let x = values[first] - values[last] + corner ** 2 / (half + (half < 0 ? -root : root));
  let y = beside[first];
  for (let k = first; k < last; k++) {
    const radius = Math.hypot(x, y);
    const [c, s] = radius === 0 ? [1, 0] : [x / radius, y / radius];
    if (k > first) beside[k - 1] = radius;
    const [a, b, d] = [values[k], beside[k], values[k + 1]];
    values[k] = c * c * a + 2 * c * s * b + s * s * d;
    values[k + 1] = s * s * a - 2 * c * s * b + c * c * d;
    beside[k] = c * s * (d - a) + (c * c - s * s) * b;
    if (k + 1 < last) {
      x = beside[k];
      y = s * beside[k + 1];
      beside[k + 1] *= c;
    }
    rotate(vectors[k], vectors[k + 1], c, s);
  }
}

/**
 * @param {Float64Array} x
 * @param {Float64Array} y
 * @param {number} c
 * @param {number} s
 */
function rotate(x, y, c, s) {
  for (let i = 0; i < x.length; i++) {
    const xi = x[i];
    const yi = y[i];
    x[i] = c * xi + s * yi;
    y[i] = c * yi - s * xi;
  }
}
