def unmatched_similarity(a, b):
    "S (B,) when everything goes everywhere."
    mass_a_bn, mass_b_bm, _ = compute_marginals(a, b)
    mean_bc = torch.einsum("bn,bcn->bc", mass_a_bn, a.local_bcn)
    partner_bc = torch.einsum("bm,bcm->bc", mass_b_bm, b.local_bcn)
    return (mean_bc * partner_bc).sum(1)
