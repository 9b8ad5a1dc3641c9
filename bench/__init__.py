"""vitbench: when, and at what cost, does a Vision Transformer beat a CNN?"""
