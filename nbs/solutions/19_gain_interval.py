def gain_interval(base_q, new_q, label_q, resamples=4000):
    "[low, high], the 95 % interval of the mean of new - base."
    gain_q, rng = new_q - base_q, torch.Generator().manual_seed(0)
    class_q = label_q.unique(return_inverse=True)[1]
    sum_i, count_i = class_q.bincount(gain_q), class_q.bincount()
    draw_ri = torch.randint(len(sum_i), (resamples, len(sum_i)), generator=rng)
    mean_r = sum_i[draw_ri].sum(1) / count_i[draw_ri].sum(1)
    return mean_r.quantile(torch.tensor([0.025, 0.975]).to(mean_r))
