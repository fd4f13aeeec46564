"""Wrap any torch optimizer with a quantum perturbation layer, and measure whether it helps."""

__version__ = "0.1.0"
