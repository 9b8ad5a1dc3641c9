"""Cards of data sets: facts alone, found in the modules of this room by their `CARDS`."""
