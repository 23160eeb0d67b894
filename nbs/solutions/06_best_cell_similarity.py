def best_cell_similarity(cosine_bnm, mass_a_bn, mass_b_bm):
    "S (B,) when each cell goes to its best partner."
    to_b_b, to_a_b = (
        (mass_a_bn * cosine_bnm.amax(2)).sum(1),
        (mass_b_bm * cosine_bnm.amax(1)).sum(1),
    )
    return (to_b_b + to_a_b) / 2
