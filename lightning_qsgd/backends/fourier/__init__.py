"""Fourier form of a circuit: a trigonometric polynomial of its inputs."""
