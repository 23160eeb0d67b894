"""What several packages share and nobody imports from outside: paths, checks, devices, precision."""
