"""What figures share: their style, and panels of accuracy over something."""
