def cell_contributions(found):
    "What each cell of A adds to S, (B, N), of a `Match`."
    return (found.plan_bnm * found.cosine_bnm).sum(2)
