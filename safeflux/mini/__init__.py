"""The embedded FLUX: a small, really trained model of a world drawn by program, in which every concept can be recognised.

``model/`` is a stock diffusers FluxPipeline directory with its card, ``detectors/`` two classifiers and an embedding;
``python -m safeflux.mini.train`` makes all of it from nothing. Read ``world.py`` first.
"""
