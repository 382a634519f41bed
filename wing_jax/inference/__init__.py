"""Trained models at work: bundles, localizers, detectors, videos."""
