import pytest
import torch

from lightning_qsgd.data import SequencesDataModule, SequenceSizes, generate_split


def ready(**arguments):
    data = SequencesDataModule(**arguments)
    data.setup("fit")
    return data


def test_default_sizes_give_twelve_steps_per_epoch():
    data = ready()
    assert [len(split) for split in data.splits] == [384, 500, 2000]
    assert len(data.train_dataloader()) == 12


def test_splits_are_drawn_from_different_seeds():
    data = ready(data_seed=4, sizes=SequenceSizes(20, 20, 20))
    for part, split in enumerate(data.splits):
        tokens, labels = generate_split(seed=12 + part, size=20)
        assert split.tensors[0].tolist() == tokens.tolist()
        assert split.tensors[1].tolist() == labels.tolist()


def test_no_sequence_is_in_two_splits_or_two_data_seeds():
    rows = [
        tuple(row)
        for seed in (0, 1, 2)
        for split in ready(data_seed=seed).splits
        for row in split.tensors[0].tolist()
    ]
    assert len(set(rows)) == len(rows)


def test_training_seeds_share_the_data_unless_asked_otherwise():
    torch.manual_seed(3)
    fixed, followed = ready(), ready(data_seed=None)
    assert fixed.splits.train.tensors[0].equal(ready(data_seed=0).splits.train.tensors[0])
    assert followed.splits.train.tensors[0].equal(ready(data_seed=3).splits.train.tensors[0])


def test_module_says_what_a_network_for_it_needs():
    x, y = next(iter(ready().train_dataloader()))
    assert (SequencesDataModule.vocab_size, SequencesDataModule.pad_token) == (1000, 0)
    assert x.shape[1:] == SequencesDataModule.input_shape
    assert x.dtype == y.dtype == torch.int64
    assert SequencesDataModule.num_classes == 4


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_empty_and_negative_splits_are_refused(name):
    with pytest.raises(ValueError, match=f"Expected `{name}` to be at least 1, got 0"):
        SequenceSizes(**{name: 0})
    with pytest.raises(ValueError, match=f"Expected `{name}` to be at least 1, got -3"):
        SequenceSizes(**{name: -3})


def test_a_negative_data_seed_is_refused():
    with pytest.raises(ValueError, match=r"`data_seed` to be an integer .* got -1"):
        SequencesDataModule(data_seed=-1)
