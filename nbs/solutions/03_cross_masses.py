def cross_masses(a, b):
    "Masses (B, N) of the cells of A and (B, M) of the cells of B."
    weight_bn = torch.einsum("bcn,bc->bn", a.local_bcn, b.global_bc).relu()
    weight_bm = torch.einsum("bcm,bc->bm", b.local_bcn, a.global_bc).relu()
    return weight_bn / weight_bn.sum(1, keepdim=True), weight_bm / weight_bm.sum(1, keepdim=True)
