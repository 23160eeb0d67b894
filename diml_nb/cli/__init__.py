"""The `diml` command: shared options, a module for each group of commands, and `main`, which joins them."""

from .main import app

__all__ = ["app"]
