"""What is written to TensorBoard, and how its pages look."""

from lightning_qsgd.tracking.layout import comparison_layout, page_of, write_layout
from lightning_qsgd.tracking.pages import flatten_config, write_circuit, write_hyperparameters
from lightning_qsgd.tracking.tags import report_scalars

__all__ = [
    "comparison_layout",
    "flatten_config",
    "page_of",
    "report_scalars",
    "write_circuit",
    "write_hyperparameters",
    "write_layout",
]
