"""Data sets of TensorFlow Datasets: those that it has, and the published ones as builders of it."""
