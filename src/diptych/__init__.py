"""Diptych: train, guide, decode and compress diffusion models, and know, pair by pair, whether a change helped."""

__version__ = "0.1.0"
