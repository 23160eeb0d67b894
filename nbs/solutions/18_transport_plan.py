def transport_plan(cost_nm, a_n, b_m, eps=0.05, iterations=2000):
    "Entropic transport plan (N, M) with rows a_n and columns b_m."
    k_nm, u_n = (-cost_nm / eps).exp(), torch.ones_like(a_n)
    for _ in range(iterations):
        v_m = b_m / (u_n @ k_nm)
        u_n = a_n / (k_nm @ v_m)
    return u_n[:, None] * k_nm * v_m
