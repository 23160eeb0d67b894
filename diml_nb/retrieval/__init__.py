"""Exact search and re-ranking of galleries, and the metrics of rankings."""
