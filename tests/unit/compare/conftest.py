"""What several tests of the comparison share."""

import pytest

from lightning_qsgd.compare.report import pictures


@pytest.fixture
def without_matplotlib(monkeypatch):
    """For what is not about pictures: drawing takes seconds."""
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
