"""Run trained models: bundles, localizers, detectors, videos."""
