def unit_cells(map_bchw, grid):
    "Unit vectors (B, C, N) of grid x grid cells, row by row."
    return F.normalize(F.adaptive_avg_pool2d(map_bchw, grid).flatten(2), dim=1)
