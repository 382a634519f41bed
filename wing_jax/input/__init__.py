"""Training batches: made on the device, or by tf.data on the host."""
