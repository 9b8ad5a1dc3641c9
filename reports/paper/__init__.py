"""The ViT paper's tables (arXiv:2010.11929): as printed, and with what was measured."""
