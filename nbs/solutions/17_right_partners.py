def right_partners(plan_nm, truth, side=7):
    "Share of the visible cells whose strongest partner is within one cell of the truth."
    m_n = plan_nm.argmax(1)
    off_n = (torch.stack([m_n % side, m_n // side], 1) - truth.target_xy_n2.floor()).abs().amax(1)
    return (off_n[truth.visible_n] <= 1).double().mean()
