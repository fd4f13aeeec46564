import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from lightning_qsgd.data.digits import DigitsDataModule, load_digit_images, split_indices
from lightning_qsgd.nn import MLP


def ready(**arguments):
    data = DigitsDataModule(**arguments)
    data.setup("fit")
    return data


def test_images_are_scikit_learns_real_digits():
    images, labels = load_digit_images()
    raw = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.float32
    assert np.array_equal(images[:, 0].numpy() * 16, raw.images.astype(np.float32))
    assert labels.tolist() == raw.target.tolist()


def test_pixels_fill_the_unit_interval():
    images, _ = load_digit_images()
    assert images.min() == 0.0
    assert images.max() == 1.0


def test_labels_are_balanced_within_five_percent():
    _, labels = load_digit_images()
    counts = torch.bincount(labels)
    assert len(counts) == 10
    assert (counts - 179.7).abs().max() < 0.05 * 179.7


def test_splits_are_disjoint_and_complete():
    _, labels = load_digit_images()
    parts = split_indices(labels, val_size=359, test_size=359, seed=0)
    assert [len(part) for part in parts] == [1079, 359, 359]
    assert torch.cat(parts).sort().values.tolist() == list(range(1797))


def test_served_splits_are_disjoint_and_complete():
    served = torch.cat([split.tensors[0] for split in ready().splits]).flatten(1)
    images = load_digit_images()[0].flatten(1)
    assert sorted(served.tolist()) == sorted(images.tolist())


def test_splits_keep_the_share_of_every_digit_to_one_image():
    _, labels = load_digit_images()
    shares = torch.bincount(labels) / len(labels)
    for split in ready().splits:
        counts = torch.bincount(split.tensors[1])
        assert (counts - shares * len(split)).abs().max() <= 1.5


def test_images_keep_their_labels():
    images, labels = load_digit_images()
    label_of = {
        tuple(image.tolist()): int(y) for image, y in zip(images.flatten(1), labels, strict=True)
    }
    for split in ready().splits:
        x, y = split.tensors
        assert [label_of[tuple(image.tolist())] for image in x.flatten(1)] == y.tolist()


def test_training_seeds_share_a_split():
    first, second = ready(order_seed=1).splits, ready(order_seed=2).splits
    for a, b in zip(first, second, strict=True):
        assert a.tensors[0].equal(b.tensors[0])


def test_another_split_seed_gives_another_split():
    assert not ready(split_seed=1).splits.test.tensors[0].equal(ready().splits.test.tensors[0])


def test_fractions_set_the_split_sizes():
    data = ready(val_fraction=0.1, test_fraction=0.3)
    assert [len(split) for split in data.splits] == [1797 - 180 - 539, 180, 539]


def test_a_small_network_learns_the_digits_in_a_few_epochs():
    torch.manual_seed(0)
    data = ready(batch_size=32, order_seed=0)
    network = MLP()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    loader = data.train_dataloader()
    for epoch in range(6):
        loader.sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
    x, y = data.splits.val.tensors
    assert (network(x).argmax(dim=1) == y).float().mean() > 0.85


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_fraction": 0.0}, r"`val_fraction` to be in \(0, 1\), got 0.0"),
        ({"test_fraction": 1.0}, r"`test_fraction` to be in \(0, 1\), got 1.0"),
        ({"val_fraction": -0.2}, r"`val_fraction` to be in \(0, 1\), got -0.2"),
        ({"val_fraction": float("nan")}, r"`val_fraction` to be in \(0, 1\), got nan"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "to be below 1, got 0.5 \\+ 0.5"),
        ({"val_fraction": 0.001}, "at least 10 of the 1797 images, .* got 2 for val"),
        ({"test_fraction": 0.001}, "one per digit, got 2 for test"),
        ({"val_fraction": 0.499, "test_fraction": 0.499}, "got 3 for train"),
        ({"split_seed": -1}, r"`split_seed` to be an integer in \[0, 2\*\*32\), got -1"),
        ({"split_seed": 2**32}, "`split_seed` to be an integer"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_loaded(arguments, message, monkeypatch):
    monkeypatch.setattr("lightning_qsgd.data.digits.load_digits", None)
    with pytest.raises(ValueError, match=message):
        DigitsDataModule(**arguments)
