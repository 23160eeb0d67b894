def column_step(score_nm, f_n, b_m):
    "g (M,), logarithms of the factors that make the columns sum to b_m."
    return b_m.log() - torch.logsumexp(f_n[:, None] + score_nm, 0)
