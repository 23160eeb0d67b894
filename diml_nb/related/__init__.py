"""Systems of other papers on interpretable matching and embedding, rebuilt on the same features."""
