"""Every example runs as shown, is short enough to read, and perturbs what it says."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore::lightning_qsgd.InvisiblePerturbationWarning"),
]


def load(name: str) -> ModuleType:
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_example_has_at_most_60_lines(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 60


def test_callback_example_perturbs_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    callback = load("callback_only").main(max_epochs=1)
    assert callback.optimizers[0].own_state.applied == 34
    assert "perturbed 34 of 34 steps" in capsys.readouterr().out


def test_mixin_example_learns(capsys: pytest.CaptureFixture[str]) -> None:
    module = load("mixin_subclass").main(max_epochs=1)
    assert module.trainer.callback_metrics["train/loss"] < 1.0
    assert "after 34 steps" in capsys.readouterr().out


def test_plain_torch_example_perturbs_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    optimizer = load("plain_torch").main(steps=20)
    assert optimizer.own_state.applied == 20
    assert "perturbed 20 steps" in capsys.readouterr().out


def test_fabric_example_learns(capsys: pytest.CaptureFixture[str]) -> None:
    assert load("fabric_loop").main() > 0.8
    assert "perturbed 68 steps" in capsys.readouterr().out


def test_circuit_example_learns_with_a_circuit_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert load("own_circuit").main(steps=120) < 0.45
    assert "Rxx(w[0])" in capsys.readouterr().out


def test_language_model_example_learns(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="needs the extra llm")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    texts = Path(__file__).parents[1] / "texts" / "word_problems"
    module = load("language_model").main(str(texts), max_steps=4)
    assert module.trainer.callback_metrics["val/loss"] < 6.5
    assert "of the step" in capsys.readouterr().out


def test_layer_examples_learn_what_the_tutorial_learns() -> None:
    scores = load("layer_classification").main()
    assert scores["EstimatorQNN, share right"] >= 0.8
    assert scores["SamplerQNN, share right"] >= 0.75
    assert load("layer_regression").main()["mean squared error"] < 0.02
    assert load("layer_images").main()["share right"] >= 0.95
