"""What is written to TensorBoard, how its pages look, and how a run is read back."""

from lightning_qsgd.tracking.circuit_page import write_circuit
from lightning_qsgd.tracking.curve import Curve
from lightning_qsgd.tracking.event_files import read_scalars
from lightning_qsgd.tracking.hyperparameters import flatten_config
from lightning_qsgd.tracking.layout import comparison_layout, write_layout
from lightning_qsgd.tracking.scalars import report_scalars

__all__ = [
    "Curve",
    "comparison_layout",
    "flatten_config",
    "read_scalars",
    "report_scalars",
    "write_circuit",
    "write_layout",
]
