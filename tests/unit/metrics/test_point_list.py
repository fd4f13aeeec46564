"""Lists of points stay short."""

import math

import torch

from lightning_qsgd.metrics.curve_metric import append_points


def test_appending_keeps_the_order_and_logarithmically_many_chunks():
    chunks = []
    for i in range(1000):
        append_points(chunks, torch.tensor([float(i)]))
        assert len(chunks) <= math.log2(i + 1) + 1

    assert torch.cat(chunks).tolist() == [float(i) for i in range(1000)]
