"""The cache: made once, whole for everybody, made again where it is damaged."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lightning_qsgd.llm.cache import cached, key_of


class Maker:
    """Counts how often it was asked."""

    def __init__(self, content: bytes = b"content" * 1000) -> None:
        self.content, self.calls = content, 0

    def __call__(self) -> bytes:
        self.calls += 1
        return self.content


def test_content_is_made_once(fresh_cache: Path) -> None:
    maker = Maker()
    assert cached("name", maker) == cached("name", maker) == maker.content
    assert maker.calls == 1
    assert [file.name for file in fresh_cache.iterdir()] == ["name"]


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda content: b"", lambda content: b"x" + content[1:]],
    ids=["truncated", "empty", "flipped"],
)
def test_damaged_file_is_made_again(damage: Any, fresh_cache: Path) -> None:
    maker = Maker()
    cached("name", maker)
    file = fresh_cache / "name"
    file.write_bytes(damage(file.read_bytes()))
    assert cached("name", maker) == maker.content
    assert cached("name", maker) == maker.content
    assert maker.calls == 2


def test_concurrent_runs_all_find_a_whole_file(fresh_cache: Path) -> None:
    makers = [Maker() for _ in range(16)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda maker: cached("name", maker), makers))
    assert set(results) == {makers[0].content}
    assert [file.name for file in fresh_cache.iterdir()] == ["name"]


def test_folder_that_cannot_be_written_costs_time_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    maker = Maker()
    assert cached("name", maker) == cached("name", maker) == maker.content
    assert maker.calls == 2


def test_failed_making_leaves_nothing_behind(fresh_cache: Path) -> None:
    def fail() -> bytes:
        raise RuntimeError("cannot")

    with pytest.raises(RuntimeError, match="cannot"):
        cached("name", fail)
    assert not fresh_cache.exists()


def test_keys_tell_borders_of_parts_apart() -> None:
    assert len({key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of("abc", "")}) == 4
