"""From image files to the feature maps of a network, and to the cells of a grid that are matched."""
