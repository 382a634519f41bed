"""TensorFlow Datasets (TFDS): readers of its data sets, and TFDS builders of other published ones."""
