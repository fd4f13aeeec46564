"""Every command that the README and the start pages tell somebody to type works in an empty folder.

Training is cut short, nothing else. What cannot run here is named below, with its reason.
"""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from lightning_qsgd.cli.main import main
from lightning_qsgd.cli.outcome import ANOTHER

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md", *(ROOT / "docs" / "start").glob("*.md")]
TYPED = re.compile(r"^```bash\n(.*?)^```|`((?:lightning-qsgd|make|pip) [^`]+)`", re.M | re.S)
SHORT = {
    "compare": ("--dry_run",),
    "compare --config digits": ("--only", "sine_0.5"),
    "fit": ("--trainer.max_epochs=1",),
    "circuit bench": ("--circuits", "[2]"),
}
"""What makes a command short."""

ELSEWHERE = {
    "make demo": "needs the clone, and trains for two minutes; .ci/package runs a comparison",
    "make test": "runs this test",
    "make docs": "needs the clone; a job of CI",
    "make bench": "needs the clone, and an idle machine",
}


def typed():
    """Every command once, without its comment."""
    found = [block or inline for page in PAGES for block, inline in TYPED.findall(page.read_text())]
    lines = "\n".join(found).replace("\\\n", " ").splitlines()
    return sorted({line.split(" #")[0].strip() for line in lines} - {""})


def of(program):
    return [line for line in typed() if line.split()[0] == program]


def test_every_command_is_run_here_or_named_with_its_reason():
    assert {line.split()[0] for line in typed()} == {"lightning-qsgd", "make", "pip"}
    assert {*of("make")} == ELSEWHERE.keys()


@pytest.mark.parametrize(
    "line", [line for line in of("lightning-qsgd") if f"{line} --dry_run" not in typed()]
)
def test_a_command_runs_in_an_empty_folder(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)[1:]
    shorter = [more for start, more in SHORT.items() if " ".join(words).startswith(start)]

    main([*words, *(part for more in shorter for part in more)])

    assert (tmp_path / "runs" / "digits").is_dir() == (words[0] == "fit")


def test_what_the_demo_says_to_type_next_is_a_plan_with_one_more_arm(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = ANOTHER.rsplit(".", 1)[-1].lower()

    main(["compare", "--config", "demo", "--arm", ANOTHER, "--only", name, "--dry_run"])

    assert name in capsys.readouterr().out


@pytest.mark.parametrize("line", of("make"))
def test_targets_of_make_exist(line):
    target = line.split()[1]

    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("line", of("pip"))
def test_what_pip_is_told_to_install_has_these_extras(line):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.fullmatch(r"pip install ([\w-]+)(?:\[([\w,]+)\])?", line.replace('"', ""))

    assert named[1] == project["name"]
    assert {*filter(None, (named[2] or "").split(","))} <= {*project["optional-dependencies"]}


def test_an_extra_is_quoted_wherever_pip_is_told_to_install_it():
    """A shell such as zsh takes brackets without quotes for a pattern, and finds no file."""
    files = [*(ROOT / "lightning_qsgd").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), PAGES[0]]
    bare = [file for file in files if re.search(r"install lightning-qsgd\[", plain_text(file))]

    assert bare == []


def plain_text(file):
    """Text in which a message that goes on in the next line of code is one."""
    return re.sub(r'"\s*\n\s*f?"', "", file.read_text())
