"""Figures: one file each, `FIGURE` in it. Nobody keeps a list of them."""
