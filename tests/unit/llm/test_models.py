"""Models: built from sizes, loaded, changed, and refused with a way out."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lightning_qsgd.llm import (
    CausalLM,
    Generation,
    GradientCheckpointing,
    LoRA,
    ModelFromConfig,
    Packed,
    PretrainedModel,
    hub,
)
from lightning_qsgd.llm.layouts import Example
from lightning_qsgd.llm.loss import answer_loss
from lightning_qsgd.llm.model_changes import shard_layers
from tests.llm_cases import SIZES, TINY, language_model

# peft 0.21 asks transformers 5.24 by a name that it warns about.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
EXAMPLE = Example(torch.arange(2, 12, dtype=torch.int32), 4)
BATCH = Packed(12).collate([[EXAMPLE], [EXAMPLE]], 0)


def gradients(module: CausalLM) -> dict[str, Any]:
    module.train()
    answer_loss(module(BATCH), BATCH["labels"]).backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def test_weights_follow_from_the_seed_and_are_float32() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([p.flatten() for p in TINY.build().parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert states[0].dtype == torch.float32


def test_attention_is_torchs_own() -> None:
    assert TINY.build().config._attn_implementation == "sdpa"


def test_saved_model_is_loaded_in_float32_from_its_folder(tmp_path: Path) -> None:
    own = TINY.build()
    own.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = PretrainedModel(str(tmp_path)).build()
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded.config._attn_implementation == "sdpa"
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, own.state_dict()[name].float())


def test_loaded_model_is_trained_with_its_dropout(tmp_path: Path) -> None:
    TINY.build().save_pretrained(tmp_path)
    assert all(part.training for part in CausalLM(PretrainedModel(str(tmp_path))).modules())


def test_model_that_is_nowhere_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    with pytest.raises(RuntimeError, match=r"model nobody/none: the hub does not .*ModelFromConf"):
        PretrainedModel("nobody/none").build()


def test_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`model_type` to be an architecture .* got 'lama'"):
        ModelFromConfig("lama").build()


def test_misspelt_size_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"got 'hiden_size'.*Did you mean 'hidden_size'\?"):
        ModelFromConfig("llama", {"hiden_size": 8}).build()


def test_lora_trains_its_own_matrices_alone_and_starts_at_the_model() -> None:
    torch.manual_seed(0)
    plain = language_model().eval()
    torch.manual_seed(0)
    module = language_model(changes=[LoRA(rank=2, dropout=0.1)]).eval()
    torch.testing.assert_close(module(BATCH), plain(BATCH), rtol=0, atol=0)
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert set(gradients(module)) == set(trained)
    (group,) = module.configure_optimizers().param_groups
    assert len(group["params"]) == len(trained)


def test_lora_without_a_layer_of_that_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`targets` to name layers .* got \['none_such'\]"):
        language_model(changes=[LoRA(targets=["none_such"])])


def test_changes_without_an_order_are_refused() -> None:
    with pytest.raises(TypeError, match="Expected `changes` in an order, got a frozenset"):
        language_model(changes=frozenset())


def test_rank_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="`rank` to be at least 1, got 0"):
        LoRA(rank=0)


@pytest.mark.parametrize("others", [[], [LoRA(rank=2)]], ids=["alone", "after LoRA"])
def test_checkpointing_changes_no_gradient(others: list[Any]) -> None:
    found = []
    for changes in (others, [*others, GradientCheckpointing()]):
        torch.manual_seed(0)
        found.append(gradients(language_model(changes=changes)))
    assert found[0].keys() == found[1].keys()
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_checkpointing_is_on_where_asked_for() -> None:
    for changes, expected in (([GradientCheckpointing()], {True}), ([], {False})):
        modules = language_model(changes=changes).modules()
        found = {m.gradient_checkpointing for m in modules if hasattr(m, "gradient_checkpointing")}
        assert found == expected


def test_model_that_does_not_name_its_layers_is_not_sharded() -> None:
    class Other(nn.Linear):
        _no_split_modules = None

    with pytest.raises(ValueError, match=r"Cannot shard Other: it does not say which"):
        shard_layers(Other(2, 2), mesh(data=2, tensor=1))


def test_mesh_that_divides_tensors_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`tensor_parallel_size` 1, got 2: .* 'auto' is the num"):
        shard_layers(TINY.build(), mesh(data=1, tensor=2))


def mesh(data: int, tensor: int) -> Any:
    """The sizes of a mesh of devices; a true one needs as many processes."""
    sizes = {"data_parallel": data, "tensor_parallel": tensor}
    return {name: SimpleNamespace(size=partial(int, size)) for name, size in sizes.items()}


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_learning_rate_must_be_above_0(rate: float) -> None:
    with pytest.raises(ValueError, match="`learning_rate` to be above 0, got"):
        language_model(learning_rate=rate)


@pytest.mark.parametrize("name", ["examples", "max_new_tokens"])
def test_generating_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` to be at least 1, got 0"):
        Generation(**{name: 0})


def test_hyperparameters_hold_no_model() -> None:
    assert dict(language_model().hparams) == {"learning_rate": 2e-5}
    assert SIZES["vocab_size"] == language_model().network.config.vocab_size
