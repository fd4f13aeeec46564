"""Settings of the whole suite: one thread, seeded, reproducible hypothesis."""

from collections.abc import Iterator

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile(
    "house", deadline=None, derandomize=True, max_examples=40, database=None
)
hypothesis.settings.load_profile("house")


@pytest.fixture(autouse=True)
def seeded_and_single_threaded() -> Iterator[None]:
    """Seed torch, and leave the machine's other cores to others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
