"""Annotated faces: readers for each data set, face crops, and the tf.data pipeline (TensorFlow is imported lazily)."""
