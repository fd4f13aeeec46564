"""How outcomes are drawn: exactly, as shots, with noise, or on a device."""

from lightning_qsgd.backends.samplers.aer import AerSampling
from lightning_qsgd.backends.samplers.given import (
    GivenSampling,
    HardwareSampling,
    SamplingFromFunction,
)
from lightning_qsgd.backends.samplers.noise import (
    DepolarizingNoise,
    DeviceNoise,
    GenericDeviceNoise,
    Noise,
    ThermalNoise,
)
from lightning_qsgd.backends.samplers.sampling import ExactSampling, Sampling, ShotSampling

__all__ = [
    "AerSampling",
    "DepolarizingNoise",
    "DeviceNoise",
    "ExactSampling",
    "GenericDeviceNoise",
    "GivenSampling",
    "HardwareSampling",
    "Noise",
    "Sampling",
    "SamplingFromFunction",
    "ShotSampling",
    "ThermalNoise",
]
