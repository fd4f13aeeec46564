"""Speed for an unmodified `SamplerQNN`: a sampler and a gradient that work on whole batches."""

from lightning_qsgd.backends.plugins.vectorized_sampler import VectorizedSampler
from lightning_qsgd.backends.plugins.vectorized_shift_gradient import VectorizedShiftGradient

__all__ = ["VectorizedSampler", "VectorizedShiftGradient"]
