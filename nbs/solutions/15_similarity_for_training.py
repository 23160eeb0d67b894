def similarity_for_training(cosine_bnm, mass_a_bn, mass_b_bm):
    "S (B,), whose gradient by the local similarities is the plan."
    plan_bnm = sinkhorn(1 - cosine_bnm, mass_a_bn, mass_b_bm).plan_bnm
    return (plan_bnm * cosine_bnm).sum((1, 2))
