"""Augmentation of face crops and their points, and the warp that cuts crops out of images."""
