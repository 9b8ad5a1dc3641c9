"""Tables: one file each."""
