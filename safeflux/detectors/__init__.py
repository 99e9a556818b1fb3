"""Detectors: each says which pictures show what a label names. They are pre-registered: threshold and weights are in the report."""
