"""Experiments as notebooks: runs by papermill, grids of runs, pooled seeds, tables, claims."""
