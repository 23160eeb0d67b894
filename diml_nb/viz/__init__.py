"""Figures, pages that need no server, and widgets for notebooks."""
