"""Packed data sets: written once, opened as mapped arrays, examined."""
