"""Results of others beside ours: imported, compared, checked."""
