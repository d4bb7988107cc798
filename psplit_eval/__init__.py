"""Measure chat models that hold several policies in one set of weights."""

__version__ = "0.1.0"
