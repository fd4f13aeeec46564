"""Settings of the tests of language models: skip without the extra, and a cache of their own."""

from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the extra; what is said without it is tested either way."""
    if find_spec("transformers") is None:
        for item in items:
            if HERE in item.path.parents and item.path.name != "test_extra.py":
                item.add_marker(pytest.mark.skip(reason="needs the extra llm"))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep files out of the user's cache; a test that looks at the cache takes a fresh one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache))


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "lightning-qsgd"
