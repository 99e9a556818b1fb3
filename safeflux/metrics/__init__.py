"""Metrics: ``fn(samples, base, instruments, *, ...) -> Score``, where ``base`` is what the base model drew for the same attack."""
