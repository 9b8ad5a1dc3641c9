"""Data sets: cards, readers, packing, transforms and batches."""
