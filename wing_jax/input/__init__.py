"""Training batches, made on the device, or on the host by tf.data."""
