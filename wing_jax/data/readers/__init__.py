"""Readers of annotations, one module for each format, and their shared helpers."""
