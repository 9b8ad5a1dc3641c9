"""What a suite will take, found out before it runs: two steps of every shape of its work."""
