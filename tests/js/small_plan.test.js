import assert from "node:assert/strict";
import { test } from "node:test";
import {
  freeRange,
  objective,
  planFrom,
  smallText,
  solveSmall,
} from "../../diml_nb/viz/static/small_plan.js";

const problem = {
  cost: [0.1, 0.9, 0.8, 0.3],
  mass_a: [0.7, 0.3],
  mass_b: [0.4, 0.6],
  controls: [],
};

test("one number says the plan, and it has both masses", () => {
  const { low, high } = freeRange(problem);
  assert.ok(Math.abs(low - 0.1) < 1e-12 && high === 0.4);
  const plan = planFrom(problem, 0.3);
  assert.ok(Math.abs(plan[0] + plan[1] - 0.7) < 1e-12);
  assert.ok(Math.abs(plan[1] + plan[3] - 0.6) < 1e-12);
});

test("Sinkhorn's plan is the minimum of the objective", () => {
  for (const eps of [0.02, 0.2, 2]) {
    const plan = solveSmall(problem, eps);
    const own = objective(problem, eps, plan);
    for (const t of [plan[0] - 1e-3, plan[0] + 1e-3]) {
      const other = planFrom(problem, t);
      if (Math.min(...other) >= 0) assert.ok(objective(problem, eps, other) > own);
    }
  }
});

test("the cost is told in words", () => {
  assert.match(smallText(problem, 100, solveSmall(problem, 100)), /t = 0.28.*t = 0.2800\.$/);
});
