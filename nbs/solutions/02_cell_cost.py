def cell_cost(a_bcn, b_bcm):
    "Cost (B, N, M) of every cell of A with every cell of B."
    return 1 - torch.einsum("bcn,bcm->bnm", a_bcn, b_bcm)
