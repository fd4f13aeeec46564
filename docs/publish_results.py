"""Copies a finished comparison into the documentation, with its raw figures.

python docs/publish_results.py runs/compare/digits 2026-11-29-digits
"""

import re
import shutil
import sys
from pathlib import Path

from lightning_qsgd.cli.configs_command import find_shipped

RESULTS = Path(__file__).parent / "results"
RAW = ("results.csv", "timing.csv", "gains.png")
"""What is copied beside the report: every run's figures, and the picture of the answer."""


def publish(folder: Path, name: str) -> Path:
    """Copy report, raw files and plan; return the folder in the documentation.

    Args:
        folder: Folder of a comparison that has ended.
        name: Date and name, such as ``2026-11-29-digits``.

    Raises:
        FileNotFoundError: If the comparison has no report, or its plan is not in the repository.
    """
    report = _page((folder / "report.md").read_text())
    command = re.search(r"--config ([\w./-]+)", report)
    plan = find_shipped(command[1], first="compare") if command else None
    if plan is None:
        raise FileNotFoundError(f"The report in {folder} names no config of this repository.")
    target = RESULTS / name
    target.mkdir(parents=True, exist_ok=True)
    for file in RAW:
        shutil.copyfile(folder / file, target / file)
    shutil.copyfile(plan, target / "plan.yaml")
    (target / "index.md").write_text(report)
    return target


def _page(report: str) -> str:
    """Return the report without the pictures that only its own folder holds."""
    report = re.sub(r"--config \S*/configs/(\S+?)\.yaml", r"--config \1", report)
    report = re.sub(r"!\[[^\]]*\]\((?!gains\.png)[^)]*\)\n\n(\*[^\n]*\*\n)?", "", report)
    sections = re.split(r"(?m)^(?=## )", report)
    return "".join(text for text in sections if not re.fullmatch(r"## [^\n]*\s*", text))


if __name__ == "__main__":
    publish(Path(sys.argv[1]), sys.argv[2])
