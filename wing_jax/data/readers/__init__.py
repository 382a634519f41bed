"""A file for each format of annotations, and what several of them share."""
