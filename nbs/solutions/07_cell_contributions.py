def cell_contributions(pairs):
    "What each cell of A adds to S, (B, N), of a `Match`."
    return (pairs.plan_bnm * pairs.cosine_bnm).sum(2)
