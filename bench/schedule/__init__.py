"""A graph of jobs on the cores, GPUs and TPUs there are."""
