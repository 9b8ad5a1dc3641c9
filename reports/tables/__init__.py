"""Tables: one file each, `TABLE` in it. Nobody keeps a list of them."""
