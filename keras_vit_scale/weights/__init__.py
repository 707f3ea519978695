"""Other projects' weights: files of named arrays, found, checked and read."""
