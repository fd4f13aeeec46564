"""Without the extra everything imports, and building says what to install."""

import subprocess
import sys
from pathlib import Path

import pytest

from lightning_qsgd.llm.hub import load_extra

BLOCKED = """
import sys
import lightning  # torchmetrics imports transformers by itself, where it finds it
for name in ("transformers", "datasets", "peft", "tokenizers"):
    sys.modules[name] = None
import lightning_qsgd
import lightning_qsgd.llm as llm
source = llm.ModelFromConfig("llama", {"vocab_size": 8})
data = llm.GSM8KDataModule("folder", llm.TrainedTokenizer())
for build in (lambda: llm.CausalLM(source), lambda: llm.TrainedTokenizer().build(["text"])):
    try:
        build()
    except ModuleNotFoundError as error:
        assert "pip install 'lightning-qsgd[llm]'" in str(error), error
    else:
        raise SystemExit("was built")
"""


def run(code: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_room_imports_without_the_extra_and_building_names_it() -> None:
    run(BLOCKED)


def test_fault_inside_a_library_is_not_mistaken_for_its_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_library.py").write_text("import something_else_that_is_missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="No module named 'something_else"):
        load_extra("broken_library")
