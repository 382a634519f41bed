"""Small data sets, written in each published format for the readers to read; no real photograph among them."""
