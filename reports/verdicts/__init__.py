"""Measured against published: which number answers which, how protocols differ, what follows."""
