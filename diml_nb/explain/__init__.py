"""Scores as sums of named parts, and tests of whether such explanations are true."""
