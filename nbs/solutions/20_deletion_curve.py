def deletion_curve(score_of, contribution_n):
    "Shares (N,) of the score after dropping 0, 1, ..., N - 1 cells, the most important first."
    position_n = contribution_n.argsort(descending=True).argsort()
    score_k = torch.stack([score_of(position_n >= k) for k in range(len(position_n))])
    return score_k / score_k[0]
