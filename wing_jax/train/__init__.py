"""Training: stages, steps, the loop, checkpoints and logs."""
