"""Others' results next to ours: imported, compared, checked."""
