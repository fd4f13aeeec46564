"""How a circuit is evaluated: from model parameters to the readout P(1) - P(0) of each qubit."""

from lightning_qsgd.backends.backend import Backend
from lightning_qsgd.backends.closed_forms import (
    CautiousTwin,
    ClassicalTwin,
    LazyTwin,
    LinearBackend,
    SineBackend,
)
from lightning_qsgd.backends.compiled_backend import CompiledBackend
from lightning_qsgd.backends.failures import (
    FailurePolicy,
    RaiseOnFailure,
    RetryOnFailure,
    SkipOnFailure,
    SkippedStep,
)
from lightning_qsgd.backends.forecast import Forecast, forecast
from lightning_qsgd.backends.sampler_backend import SamplerBackend
from lightning_qsgd.backends.samplers import (
    AerSampling,
    DepolarizingNoise,
    DeviceNoise,
    ExactSampling,
    GenericDeviceNoise,
    GivenSampling,
    HardwareSampling,
    Noise,
    Sampling,
    SamplingFromFunction,
    ShotSampling,
    ThermalNoise,
)

__all__ = [
    "AerSampling",
    "Backend",
    "CautiousTwin",
    "ClassicalTwin",
    "CompiledBackend",
    "DepolarizingNoise",
    "DeviceNoise",
    "ExactSampling",
    "FailurePolicy",
    "Forecast",
    "GenericDeviceNoise",
    "GivenSampling",
    "HardwareSampling",
    "LazyTwin",
    "LinearBackend",
    "Noise",
    "RaiseOnFailure",
    "RetryOnFailure",
    "SamplerBackend",
    "Sampling",
    "SamplingFromFunction",
    "ShotSampling",
    "SineBackend",
    "SkipOnFailure",
    "SkippedStep",
    "ThermalNoise",
    "forecast",
]
