"""Compound scaling, searched: from a budget to the coefficients that scale a convolutional baseline."""

__version__ = "0.1.0"
