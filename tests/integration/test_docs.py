"""Every code block of the documentation runs, and every path and link in it leads somewhere."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from lightning_qsgd.cli.configs_command import with_shipped_configs
from tests.browser import BROWSER

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OTHER_TOOLS = (
    "ecosystem.md"  # its blocks need packages that are not ours: test_ecosystem.py runs them
)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)(?:#[^)]*)?\)")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*enable_nested_tensor"),
    pytest.mark.filterwarnings("ignore::lightning_qsgd.InvisiblePerturbationWarning"),
]


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


@pytest.mark.parametrize(
    "page", [page for page in pages_with("python") if page.name != OTHER_TOOLS], ids=named
)
def test_python_blocks_of_a_page_run_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "docs"}
    for number, block in enumerate(blocks(page, "python"), start=1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), names)


@pytest.mark.parametrize("number", range(len(blocks(PAGES[0], "python"))))
def test_each_python_block_of_the_readme_runs_when_pasted_alone(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks(PAGES[0], "python")[number], "README", "exec"), {"__name__": "docs"})


@pytest.mark.parametrize("page", pages_with("yaml"), ids=named)
def test_yaml_blocks_are_yaml(page):
    for block in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(block), dict)


@pytest.mark.parametrize("page", pages_with("bash"), ids=named)
def test_configs_in_commands_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.split("#")[0].split()
            if words[:1] == ["lightning-qsgd"] and "my_" not in line and "$" not in line:
                with_shipped_configs(words[1:])  # raises if a config is not there


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{named(page)} links to {target}"


def test_every_picture_is_drawn_by_code(tmp_path, monkeypatch):
    pytest.importorskip("pylatexenc", reason="needs the extra plot")
    monkeypatch.syspath_prepend(ROOT / "docs")
    make_pictures = import_module("make_pictures")
    monkeypatch.setattr(make_pictures, "FOLDER", tmp_path)

    make_pictures.main([])

    drawn = {path.name for path in tmp_path.iterdir()}
    if BROWSER is None:
        drawn.add("report.png")  # a photograph
    assert drawn == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
