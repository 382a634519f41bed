"""Metrics, and models measured on data sets."""
