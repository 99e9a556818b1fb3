"""Loaders: each gives an export back as its consumers get it, one file each, found by the exporter's name."""
