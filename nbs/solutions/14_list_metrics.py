def list_metrics(index_k, label_g, query):
    "[P@1, R-precision, MAP@R] of the list of one query, an image of the gallery."
    r = (label_g == label_g[query]).sum() - 1
    right_k = (label_g[index_k[:r]] == label_g[query]).double()
    precision_k = right_k.cumsum(0) / torch.arange(1, len(right_k) + 1)
    return torch.stack([right_k[0], right_k.sum() / r, (right_k * precision_k).sum() / r])
