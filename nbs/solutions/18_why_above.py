def why_above(found, first, second):
    "Parts (N + 1,) of score(first) - score(second): the cells of the query, then the cosine."
    gap_nm = found.contribution_bnm[first] - found.contribution_bnm[second]
    return torch.cat(
        [gap_nm.sum(1), found.global_cosine_b[[first]] - found.global_cosine_b[[second]]]
    )
