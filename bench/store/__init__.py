"""The work folder: job folders and their claims, an index of what they hold, and bundles."""
