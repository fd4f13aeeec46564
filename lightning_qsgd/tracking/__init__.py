"""What is written to TensorBoard, how its pages look, and how a run is read back."""

from lightning_qsgd.tracking.curve import Curve
from lightning_qsgd.tracking.event_files import read_scalars
from lightning_qsgd.tracking.layout import comparison_layout, write_layout
from lightning_qsgd.tracking.pages import flatten_config, write_circuit
from lightning_qsgd.tracking.tags import report_scalars

__all__ = [
    "Curve",
    "comparison_layout",
    "flatten_config",
    "read_scalars",
    "report_scalars",
    "write_circuit",
    "write_layout",
]
