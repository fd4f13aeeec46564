"""Copies a finished comparison or suite into the documentation, with its raw figures.

python -m docs.publish_results runs/compare/digits 2026-11-29-digits
python -m docs.publish_results runs/suites/league 2026-11-29-league
python -m docs.publish_results runs/suites/mine 2026-11-29-mine my_suite.yaml

The plan is the shipped one of that name, or the file that is named last.
"""

import re
import shutil
import sys
from pathlib import Path

from lightning_qsgd.cli.configs_command import find_shipped

RESULTS = Path(__file__).parent / "results"
RAW = ("results.csv", "timing.csv")
PICTURES = ("gains.png", "twins.png")
"""What is copied beside the report: every run's figures, and the pictures of the answer."""


def publish(folder: Path, name: str, plan: Path | None = None) -> Path:
    """Copy reports, raw files and plan; return the folder in the documentation.

    Args:
        folder: Folder of a comparison or of a suite that has ended.
        name: Date and name, such as ``2026-11-29-digits``.
        plan: Config that asked for it; None looks for one of its name in the repository.

    Raises:
        FileNotFoundError: If there is no report, or its plan is not in the repository.
    """
    target = RESULTS / name
    if not (folder / "suite.md").is_file():
        report = (folder / "report.md").read_text()
        command = re.search(r"--config ([\w./-]+)", report)
        if plan is None and command:
            plan = _plan(command[1], "compare")
        return _copied(folder, target, plan)
    plan = plan or _plan(f"suites/{folder.name}", "suites")
    page = (folder / "suite.md").read_text()
    tasks = re.findall(r"`([^`]+)/report\.html`", page)
    for task in tasks:
        _copied(folder / task, target / task, None)
    shutil.copyfile(plan, target / "plan.yaml")
    shutil.copyfile(folder / "profile.png", target / "profile.png")
    if (folder / "suite.csv").is_file():
        shutil.copyfile(folder / "suite.csv", target / "suite.csv")
    command = f"```bash\nlightning-qsgd compare --config suites/{folder.name}\n```\n\n> "
    (target / "index.md").write_text(with_links(page).replace("> ", command, 1))
    return target


def with_links(page: str) -> str:
    """Let the page of a suite link to the published pages of its tasks."""
    return re.sub(r"`([^`]+)/report\.html`", r"[\1](\1/index.md)", page)


def _plan(name: str, first: str) -> Path:
    plan = Path(name) if Path(name).is_file() else find_shipped(name, first=first)
    if plan is None:
        raise FileNotFoundError(
            f"There is no config {name}, neither here nor in this repository. Name the plan last."
        )
    return plan


def _copied(folder: Path, target: Path, plan: Path | None) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    for file in (*RAW, *(name for name in PICTURES if (folder / name).is_file())):
        shutil.copyfile(folder / file, target / file)
    kept = target / "plan.yaml"
    if plan is not None and not (kept.exists() and kept.samefile(plan)):
        shutil.copyfile(plan, kept)
    (target / "index.md").write_text(_page((folder / "report.md").read_text()))
    return target


def _page(report: str) -> str:
    """Return the report without the pictures that only its own folder holds."""
    report = re.sub(r"--config \S*/configs/(\S+?)\.yaml", r"--config \1", report)
    report = re.sub(r"/\S*/(?=runs/suites/)", "", report)
    report = re.sub(r"!\[[^\]]*\]\((?!(?:gains|twins)\.png)[^)]*\)\n\n(\*[^\n]*\*\n)?", "", report)
    sections = re.split(r"(?m)^(?=## )", report)
    return "".join(text for text in sections if not re.fullmatch(r"## [^\n]*\s*", text))


if __name__ == "__main__":
    publish(Path(sys.argv[1]), sys.argv[2], *map(Path, sys.argv[3:4]))
