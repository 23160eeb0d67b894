def training_images(label_n):
    "bool (N,): the images of the first half of the classes."
    classes = label_n.unique()
    return torch.isin(label_n, classes[: len(classes) // 2])
