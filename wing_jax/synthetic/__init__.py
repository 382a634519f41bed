"""Synthetic faces: heads rendered with exact points, for tests, the demo and pre-training."""
