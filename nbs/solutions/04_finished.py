def finished(plan_bnm, a_bn, b_bm, tol):
    "bool (B,): which pairs are finished."
    return (plan_bnm.sum(1) - b_bm).abs().sum(1) < tol
