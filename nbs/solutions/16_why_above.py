def why_above(pairs, first, second):
    "Parts (N + 1,) of score(first) - score(second): the cells of the query, then the cosine."
    gap_nm = pairs.contribution_bnm[first] - pairs.contribution_bnm[second]
    cosine_1 = pairs.global_cosine_b[[first]] - pairs.global_cosine_b[[second]]
    return torch.cat([gap_nm.sum(1), cosine_1])
