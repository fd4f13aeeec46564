"""Every notebook runs from top to bottom, says nothing on stderr, and is stored with pictures."""

import shutil
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs the group dev")
nbformat = pytest.importorskip("nbformat")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.filterwarnings("ignore")  # of the machinery that runs it; its own are checked below
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_says_nothing_on_stderr(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    for file in path.parent.glob("*.py"):  # what lies beside a notebook is imported by it
        shutil.copy(file, tmp_path)
    settings = {"metadata": {"path": str(tmp_path)}}

    nbclient.NotebookClient(notebook, timeout=600, resources=settings).execute()

    said = [output["text"] for output in outputs(notebook) if output.get("name") == "stderr"]
    assert said == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_with_its_pictures_and_below_a_megabyte(path):
    notebook = nbformat.read(path, as_version=4)

    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert path.stat().st_size < 1_000_000
