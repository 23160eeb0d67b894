"""Metric learning with structural distances: losses, batches, training, evaluation, linear probes."""
