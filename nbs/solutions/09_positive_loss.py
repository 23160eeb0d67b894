def positive_loss(distance_p1, beta_p, margin=0.2):
    "Mean hinge of P positive pairs, a number."
    return (distance_p1[:, 0] - beta_p + margin).relu().mean()
