"""Copies a finished comparison into the documentation, with its raw figures.

python docs/publish_results.py runs/compare/digits 2026-11-29-digits
"""

import re
import shutil
import sys
from pathlib import Path


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
    report = (folder / "report.md").read_text()
    command = re.search(r"--config (\S+)", report)
    plan = Path(command[1]) if command else Path()
    if not plan.is_file():
        raise FileNotFoundError(f"The report in {folder} names no config that is here: {plan}.")
    target = RESULTS / name
    target.mkdir(parents=True, exist_ok=True)
    for file in RAW:
        shutil.copyfile(folder / file, target / file)
    shutil.copyfile(plan, target / "plan.yaml")
    (target / "index.md").write_text(_page(report, plan))
    return target


def _page(report: str, plan: Path) -> str:
    """Return the report without what only its own folder holds."""
    shown = plan.relative_to(plan.parents[2]).as_posix()
    report = report.replace(str(plan), shown)
    report = re.sub(r"!\[[^\]]*\]\((?!gains\.png)[^)]*\)\n\n(\*[^\n]*\*\n)?", "", report)
    sections = re.split(r"(?m)^(?=## )", report)
    empty = re.compile(r"## [^\n]*\n\s*\Z")
    text = "".join(section for section in sections if not empty.fullmatch(section))
    return text.replace("\n```\n", "\n```text\n", 1) if "```" in text else text


if __name__ == "__main__":
    print(publish(Path(sys.argv[1]), sys.argv[2]))
