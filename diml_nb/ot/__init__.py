"""Optimal transport between the cells of image pairs: cost, marginals, Sinkhorn, matching, compiled code."""
