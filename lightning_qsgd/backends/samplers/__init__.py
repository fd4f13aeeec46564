"""How outcomes are drawn: exactly, as shots, with noise, or on a device."""

from lightning_qsgd.backends.samplers.aer import AerSampling
from lightning_qsgd.backends.samplers.depolarizing_noise import DepolarizingNoise
from lightning_qsgd.backends.samplers.device_noise import DeviceNoise, GenericDeviceNoise
from lightning_qsgd.backends.samplers.exact import ExactSampling
from lightning_qsgd.backends.samplers.from_function import SamplingFromFunction
from lightning_qsgd.backends.samplers.given import GivenSampling
from lightning_qsgd.backends.samplers.hardware import HardwareSampling
from lightning_qsgd.backends.samplers.noise import Noise
from lightning_qsgd.backends.samplers.sampling import Sampling
from lightning_qsgd.backends.samplers.shots import ShotSampling
from lightning_qsgd.backends.samplers.thermal_noise import ThermalNoise

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
