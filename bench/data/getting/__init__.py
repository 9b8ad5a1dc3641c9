"""Getting data sets: find, download, unpack and check files, and note where they lie."""
