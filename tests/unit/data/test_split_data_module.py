"""Laws that both data modules obey: order, randomness, refusal before setup."""

import copy
import pickle

import lightning
import pytest
import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DistributedSampler

from lightning_qsgd.data import DigitsDataModule, SequencesDataModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
]
BOTH = pytest.mark.parametrize("data_module", [DigitsDataModule, SequencesDataModule])


def ready(data_module, **arguments):
    data = data_module(**arguments)
    data.setup("fit")
    return data


def orders(loader, num_epochs):
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)
        yield torch.cat([y for _, y in loader]).tolist()


class Recorder(LightningModule):
    """Train one number and record the labels of each epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen = {}

    def training_step(self, batch, batch_idx):
        self.seen.setdefault(self.current_epoch, []).extend(batch[1].tolist())
        return self.weight**2

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(data, folder, max_epochs, checkpoint=None, recorder=None, **arguments):
    recorder = recorder or Recorder()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        logger=False,
        callbacks=[ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)],
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    trainer.fit(recorder, datamodule=data, ckpt_path=checkpoint)
    return recorder.seen


@BOTH
def test_batches_hold_float_or_token_inputs_and_int64_labels(data_module):
    data = ready(data_module, batch_size=16)
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (16, *data_module.input_shape)
    assert y.dtype == torch.int64
    assert set(y.tolist()) <= set(range(data_module.num_classes))


@BOTH
def test_every_example_is_served_once_per_epoch_and_the_rest_is_kept(data_module):
    data = ready(data_module, batch_size=50)
    for split, loader in zip(
        data.splits,
        [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()],
        strict=True,
    ):
        batches = [y for _, y in loader]
        assert sum(len(y) for y in batches) == len(split)
        assert len(batches) == -(-len(split) // 50)


@BOTH
def test_order_is_a_pure_function_of_order_seed_and_epoch(data_module):
    first = list(orders(ready(data_module, order_seed=5).train_dataloader(), 3))
    assert list(orders(ready(data_module, order_seed=5).train_dataloader(), 3)) == first
    assert list(orders(ready(data_module, order_seed=6).train_dataloader(), 3)) != first
    assert first[0] != first[1]


@BOTH
def test_order_seed_none_follows_seed_everything(data_module):
    torch.manual_seed(5)
    followed = list(orders(ready(data_module).train_dataloader(), 2))
    assert followed == list(orders(ready(data_module, order_seed=5).train_dataloader(), 2))


@BOTH
def test_order_does_not_depend_on_numbers_drawn_after_seeding(data_module):
    torch.manual_seed(5)
    torch.rand(100)
    assert ready(data_module).train_dataloader().sampler.seed == 5


@BOTH
def test_iterating_draws_nothing_from_the_global_random_states(data_module):
    data = data_module()
    torch_state, lightning_seed = torch.get_rng_state(), torch.initial_seed()
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        next(iter(loader))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.initial_seed() == lightning_seed


@BOTH
def test_worker_processes_serve_the_same_batches(data_module):
    alone = ready(data_module, order_seed=1).val_dataloader()
    helped = ready(data_module, order_seed=1, num_workers=1).val_dataloader()
    assert next(iter(helped))[0].equal(next(iter(alone))[0])


@BOTH
def test_resume_at_an_epoch_end_meets_the_order_of_an_uninterrupted_run(data_module, tmp_path):
    whole = fit(data_module(order_seed=1), tmp_path / "whole", max_epochs=3)
    fit(data_module(order_seed=1), tmp_path / "part", max_epochs=1)
    rest = fit(
        data_module(order_seed=1),
        tmp_path / "part",
        max_epochs=3,
        checkpoint=tmp_path / "part" / "epoch=0.ckpt",
    )
    assert list(rest) == [1, 2]
    assert rest == {epoch: whole[epoch] for epoch in (1, 2)}
    assert whole[0] != whole[1] != whole[2]


@BOTH
def test_training_seed_reaches_the_order_through_the_trainer(data_module, tmp_path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "8")  # restores what seed_everything sets
    seed_everything(8, verbose=False)
    seen = fit(data_module(), tmp_path, max_epochs=1)
    assert seen == fit(data_module(order_seed=8), tmp_path / "explicit", max_epochs=1)


@BOTH
def test_a_distributed_trainer_shards_the_epoch_order_over_its_ranks(data_module):
    loader = ready(data_module, order_seed=1).train_dataloader()
    whole = set(loader.sampler)
    shards = [sharded_by_lightning(loader, rank) for rank in (0, 1)]
    assert set(shards[0]) | set(shards[1]) == whole
    assert abs(len(shards[0]) - len(whole) / 2) < 1


def sharded_by_lightning(loader, rank):
    wrapper = lightning.fabric.utilities.distributed.DistributedSamplerWrapper
    sampler = wrapper(loader.sampler, num_replicas=2, rank=rank, shuffle=False)
    assert isinstance(sampler, DistributedSampler)
    sampler.set_epoch(1)
    return list(sampler)


@pytest.fixture
def process_group(monkeypatch):
    """Leave neither a process group nor its address behind."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@BOTH
def test_training_survives_the_sampler_that_lightning_injects_under_ddp(data_module, tmp_path):
    class SamplerRecorder(Recorder):
        def on_train_start(self):
            self.sampler = self.trainer.train_dataloader.sampler

    recorder, data = SamplerRecorder(), data_module(order_seed=1)
    strategy = lightning.pytorch.strategies.DDPStrategy(process_group_backend="gloo")
    fit(data, tmp_path, max_epochs=2, recorder=recorder, strategy=strategy, devices=1)
    assert isinstance(recorder.sampler, DistributedSampler)
    labels = sorted(data.splits.train.tensors[1].tolist())
    assert [sorted(seen) for seen in recorder.seen.values()] == [labels, labels]
    assert recorder.seen[0] != recorder.seen[1]


@BOTH
@pytest.mark.parametrize("carried_over", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_a_copied_or_pickled_module_serves_the_same_order(data_module, carried_over):
    data = data_module(order_seed=2)
    copied = carried_over(data)
    data.setup("fit")
    copied.setup("fit")
    assert list(orders(copied.train_dataloader(), 1)) == list(orders(data.train_dataloader(), 1))


@BOTH
def test_serving_before_setup_is_refused(data_module):
    with pytest.raises(RuntimeError, match=r"its data is not set up yet. Call `setup\('fit'\)`"):
        data_module().train_dataloader()


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` to be at least 1, got 0"),
        ({"num_workers": -1}, "`num_workers` to be at least 0, got -1"),
        ({"order_seed": -1}, "`order_seed` to be an integer .* got -1"),
        ({"order_seed": 2**64}, "`order_seed` to be an integer"),
    ],
)
def test_bad_loader_arguments_are_refused_at_construction(data_module, arguments, message):
    with pytest.raises(ValueError, match=message):
        data_module(**arguments)
