"""Records of results: what is kept with a number, where it came from, and whether it comes out again."""
