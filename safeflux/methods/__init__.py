"""Methods: ``fn(model, task, *, ...) -> Edit``, one file each; reached through ``safeflux.registry``."""
