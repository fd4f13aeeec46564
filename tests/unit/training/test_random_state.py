"""The random generators in a checkpoint."""

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from lightning_qsgd.training import RandomStateCallback
from tests.integration.modules import Finished, loader, make_trainer


def drawn() -> tuple[float, float, float, float]:
    return (
        torch.rand(()).item(),
        float(np.random.rand()),  # noqa: NPY002 - the global generator is meant
        random.random(),
        random.gauss(0, 1),
    )


def trainer(world_size: int) -> Any:
    return SimpleNamespace(world_size=world_size)


def test_all_generators_go_on_where_they_were(tmp_path: Any) -> None:
    random.gauss(0, 1)  # leaves a second number in the generator's state
    torch.save(RandomStateCallback().state_dict(), tmp_path / "state.pt")
    expected = drawn()
    restored = RandomStateCallback()
    restored.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    restored.on_train_start(trainer(1), None)
    assert drawn() == expected


def test_a_state_is_restored_once() -> None:
    callback = RandomStateCallback()
    callback.load_state_dict(callback.state_dict())
    callback.restore()
    first = drawn()
    callback.restore()
    assert drawn() != first


def test_without_a_saved_state_nothing_is_touched() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)[1]
    torch.manual_seed(3)
    torch.rand(1)
    RandomStateCallback().on_train_start(trainer(1), None)
    assert torch.rand(1) == expected


def test_several_processes_are_warned_and_keep_their_own_states() -> None:
    callback = RandomStateCallback()
    callback.load_state_dict(callback.state_dict())
    before = torch.get_rng_state()
    torch.rand(1)
    with pytest.warns(UserWarning, match="belong to process 0 and are not restored on several"):
        callback.on_train_start(trainer(2), None)
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_from_within_a_batch_gives_a_warning(tmp_path: Any, recwarn: Any) -> None:
    """Loaders count the batch that was served, Lightning those that were trained."""

    class Failing(Callback):
        def on_before_backward(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 3:
                raise OSError("no disk")

    def trainer_with(*callbacks: Any) -> Trainer:
        settings: Any = {"enable_checkpointing": True, "default_root_dir": tmp_path}
        return make_trainer(RandomStateCallback(), *callbacks, **settings)

    saving = OnExceptionCheckpoint(tmp_path)
    with pytest.raises(OSError, match="no disk"):
        trainer_with(saving, Failing()).fit(Finished(), loader())
    with pytest.warns(
        UserWarning, match=r"written within batch 3 of its epoch.*every_n_train_step"
    ):
        trainer_with().fit(Finished(), loader(), ckpt_path=saving.ckpt_path)
    each = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    trainer_with(each).fit(Finished(), loader())
    recwarn.clear()
    for path in tmp_path.glob("epoch=*.ckpt"):
        trainer_with().fit(Finished(), loader(), ckpt_path=path)
    assert not [w for w in recwarn if "within batch" in str(w.message)]
