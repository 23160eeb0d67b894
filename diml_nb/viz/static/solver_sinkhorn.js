/** Entropic optimal transport of one pair by Sinkhorn's algorithm, as `sinkhorn` of the library. */

/**
 * @typedef {object} Problem
 * @property {Float64Array} cost (N, M), row by row.
 * @property {Float64Array} massA (N,)
 * @property {Float64Array} massB (M,)
 * @property {number} eps Weight of the entropy, in units of the cost.
 *
 * @typedef {object} Solution
 * @property {Float64Array} plan (N, M)
 * @property {number} error L1 error of the columns; the rows are exact.
 * @property {number} iterations
 *
 * @typedef {object} Domain Half steps on the factors of the plan, or on their logarithms.
 * @property {number} neutral The factor that changes nothing.
 * @property {(columnFactors: Float64Array) => Float64Array} rows The factors that make rows right.
 * @property {(rowFactors: Float64Array) => Float64Array} columns
 * @property {(factor: number, next: number) => number} ratio A column sum as a share of its mass.
 * @property {(u: Float64Array, v: Float64Array) => Float64Array} plan
 */

/* domains */
// As in the library: exp() of what spans more may underflow in float32; logarithms take over.
const LOG_DOMAIN_RANGE = 42;
const MIN_MASS = 1e-30;

/**
 * Factors u, v of T = u K v.
 *
 * @param {Float64Array} logKernel
 * @param {Float64Array} a
 * @param {Float64Array} b
 * @returns {Domain}
 */
function scalingDomain(logKernel, a, b) {
  const kernel = logKernel.map(Math.exp);
  const width = b.length;
  return {
    neutral: 1,
    rows: (v) =>
      a.map((mass, n) => {
        let total = 0;
        for (let m = 0; m < width; m++) total += kernel[n * width + m] * v[m];
        return mass / total;
      }),
    columns: (u) => {
      const total = new Float64Array(width);
      for (let n = 0; n < u.length; n++) {
        for (let m = 0; m < width; m++) total[m] += kernel[n * width + m] * u[n];
      }
      return b.map((mass, m) => mass / total[m]);
    },
    ratio: (factor, next) => factor / next,
    plan: (u, v) => kernel.map((k, i) => u[Math.floor(i / width)] * k * v[i % width]),
  };
}

/**
 * The logarithm of a sum of exponentials, whose largest term is taken out first.
 *
 * @param {Float64Array} logKernel
 * @param {number} start of a row or a column
 * @param {number} step
 * @param {Float64Array} factors
 */
function logSumExp(logKernel, start, step, factors) {
  let largest = -Infinity;
  for (let k = 0; k < factors.length; k++) {
    largest = Math.max(largest, logKernel[start + k * step] + factors[k]);
  }
  let total = 0;
  for (let k = 0; k < factors.length; k++) {
    total += Math.exp(logKernel[start + k * step] + factors[k] - largest);
  }
  return largest + Math.log(total);
}

/**
 * The same on f = log u, g = log v; stable for any eps.
 *
 * @param {Float64Array} logKernel
 * @param {Float64Array} a
 * @param {Float64Array} b
 * @returns {Domain}
 */
function logDomain(logKernel, a, b) {
  const width = b.length;
  return {
    neutral: 0,
    rows: (g) => a.map((mass, n) => Math.log(mass) - logSumExp(logKernel, n * width, 1, g)),
    columns: (f) => b.map((mass, m) => Math.log(mass) - logSumExp(logKernel, m, width, f)),
    ratio: (factor, next) => Math.exp(factor - next),
    plan: (f, g) => logKernel.map((k, i) => Math.exp(f[Math.floor(i / width)] + k + g[i % width])),
  };
}

/* iterations */
/**
 * Scaling factors where they are safe, logarithms elsewhere.
 *
 * @param {Problem} problem
 * @returns {{domain: Domain, massB: Float64Array}}
 */
function chooseDomain({ cost, massA, massB, eps }) {
  const a = massA.map((mass) => Math.max(mass, MIN_MASS));
  const b = massB.map((mass) => Math.max(mass, MIN_MASS));
  const lowest = cost.reduce((x, y) => Math.min(x, y), Infinity);
  const logKernel = cost.map((c) => (lowest - c) / eps);
  const isSafe = logKernel.every((k) => k >= -LOG_DOMAIN_RANGE);
  const domain = (isSafe ? scalingDomain : logDomain)(logKernel, a, b);
  return { domain, massB: b };
}

/**
 * Half of the L1 error at least: columns without mass are left out.
 *
 * @param {Domain} domain
 * @param {Float64Array} massB
 * @param {Float64Array} v
 * @param {Float64Array} next
 */
function columnError(domain, massB, v, next) {
  return massB.reduce(
    (total, b, m) => (b > MIN_MASS ? total + Math.abs(b * domain.ratio(v[m], next[m]) - b) : total),
    0,
  );
}

/**
 * The plan after each iteration: the rows, then the columns.
 *
 * @param {Problem} problem
 * @returns {Generator<{error: number, plan: () => Float64Array}>}
 */
function* iterate(problem) {
  const { domain, massB } = chooseDomain(problem);
  let v = domain.columns(new Float64Array(problem.massA.length).fill(domain.neutral));
  for (;;) {
    const u = domain.rows(v);
    const next = domain.columns(u);
    const columnFactors = v; // not the next ones: so the rows of the plan are exact
    yield {
      error: columnError(domain, massB, v, next),
      plan: () => domain.plan(u, columnFactors),
    };
    v = next;
  }
}

/**
 * Iterate until the L1 error of the columns is below `tol`.
 *
 * @param {Problem} problem
 * @param {{tol?: number, maxIter?: number}} [options]
 * @returns {Solution}
 */
export function solve(problem, { tol = 1e-3, maxIter = 200 } = {}) {
  let iterations = 0;
  for (const { error, plan } of iterate(problem)) {
    iterations += 1;
    if (error < tol || iterations >= maxIter) return { plan: plan(), error, iterations };
  }
  throw new Error("the iterations have no end");
}

/**
 * The plans and errors of the first iterations.
 *
 * @param {Problem} problem
 * @param {number} count
 * @returns {{plans: Float64Array[], errors: number[]}}
 */
export function traceIterations(problem, count) {
  const plans = [];
  const errors = [];
  for (const { error, plan } of iterate(problem)) {
    plans.push(plan());
    errors.push(error);
    if (plans.length === count) break;
  }
  return { plans, errors };
}
