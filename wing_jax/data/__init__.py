"""Annotated faces: readers for each data set, chips, and the tf.data pipeline (TensorFlow is imported lazily)."""
