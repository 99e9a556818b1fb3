"""Exporters: ``fn(model, out, *, ...) -> list[Path]``, one file each; reached through ``safeflux.registry``."""
