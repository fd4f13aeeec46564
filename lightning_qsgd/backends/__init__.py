"""How a circuit is evaluated: from model parameters to the readout P(1) - P(0) of each qubit."""

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.backends.compiled_backend import CompiledBackend
from lightning_qsgd.backends.sampler import SamplerBackend
from lightning_qsgd.backends.sine import SineBackend

__all__ = ["Backend", "CompiledBackend", "SamplerBackend", "SineBackend"]
