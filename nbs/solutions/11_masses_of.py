def masses_of(weight_bn):
    "Masses (B, N) that sum to 1 for each image; equal ones where an image has no weight."
    weight_bn = torch.where(weight_bn.sum(1, keepdim=True) > 0, weight_bn, 1.0)
    return weight_bn / weight_bn.sum(1, keepdim=True)
