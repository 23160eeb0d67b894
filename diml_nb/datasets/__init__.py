"""Data sets: folders and tables of images, named sets, downloads, composed scenes with known truth."""
