"""Readers: from files as their owners lay them out to images and labels, split by split."""
