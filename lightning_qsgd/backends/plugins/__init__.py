"""Speed for an unmodified `SamplerQNN`: a sampler and a gradient that work on whole batches."""

from lightning_qsgd.backends.plugins.shift_gradient import VectorizedShiftGradient
from lightning_qsgd.backends.plugins.vectorized_sampler import VectorizedSampler

__all__ = ["VectorizedSampler", "VectorizedShiftGradient"]
