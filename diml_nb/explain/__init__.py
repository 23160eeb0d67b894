"""Scores as sums of named terms, and tests of whether such explanations are true."""
