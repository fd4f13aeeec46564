"""Finds out what a comparison runs on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from lightning_qsgd.compare.results.results import Provenance

PACKAGES = (
    *("lightning-qsgd", "torch", "lightning", "torchmetrics", "numpy", "scipy", "optuna", "ray"),
    *("qiskit", "qiskit-machine-learning", "qiskit-aer"),
)


def provenance_of(command: str, config: str) -> Provenance:
    """Describe this machine, its libraries and the state of the code.

    Args:
        command: Command that repeats the comparison.
        config: The whole configuration, as text.
    """
    return Provenance(command, config, _versions(), _git(), _machine(), _now())


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git() -> str:
    try:
        commit, changes = (
            subprocess.run(
                ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit} with uncommitted changes" if changes else commit


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
