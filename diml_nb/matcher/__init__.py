"""The front door: a matcher of one's own images, an index of them, and hits that explain themselves."""
