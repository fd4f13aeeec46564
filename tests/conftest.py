"""Settings of the whole suite: one thread, seeded, reproducible hypothesis."""

import logging
import sys
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


@pytest.fixture(autouse=True)
def lightnings_words_are_captured() -> None:
    """Let `caplog` see what Lightning logs; some versions keep it from the root logger."""
    logging.getLogger("lightning.pytorch").propagate = True


@pytest.fixture(autouse=True)
def modules_of_this_test_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget modules that a test wrote itself and imported: the next one may use the same name."""
    own = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    for name, module in [*sys.modules.items()] if own is not None else []:
        if str(getattr(module, "__dict__", {}).get("__file__")).startswith(str(own)):
            del sys.modules[name]
