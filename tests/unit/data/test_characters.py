"""A text becomes examples of what comes next, and no part of it sees another."""

import sys
from pathlib import Path

import pytest
import torch

from lightning_qsgd.data import NUM_CHARACTERS, CharactersDataModule
from lightning_qsgd.data.characters import ALPHABET, encode

TEXT = Path(__file__).parents[2] / "texts" / "harrow_point.txt"


@pytest.fixture
def numbered(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(ALPHABET[:90] * 2)
    return str(file)


def test_every_character_of_the_alphabet_has_a_class_of_its_own():
    assert encode(ALPHABET).tolist() == list(range(NUM_CHARACTERS - 1))
    assert encode("\t\u03b8").tolist() == [NUM_CHARACTERS - 1] * 2


def test_examples_are_every_place_of_each_part(numbered):
    data = CharactersDataModule(numbered, context=3, val_fraction=0.1)
    data.setup("fit")
    codes = encode(Path(numbered).read_text())
    start = 0
    for part, size in zip(data.splits, (144, 18, 18), strict=True):
        own = codes[start : start + size]
        expected = [(own[i : i + 3].tolist(), own[i + 3].item()) for i in range(size - 3)]
        assert [(x.tolist(), y.item()) for x, y in part] == expected
        start += size


def test_the_shipped_text_needs_no_unknown_character():
    text = TEXT.read_text()
    assert (encode(text) < NUM_CHARACTERS - 1).all()
    data = CharactersDataModule(str(TEXT))
    data.setup("fit")
    x, y = next(iter(data.train_dataloader()))
    assert (x.shape, y.shape) == (torch.Size([64, 16]), torch.Size([64]))


def test_without_a_file_the_text_is_what_comes_with_python():
    data = CharactersDataModule()
    data.setup("fit")
    sizes = [len(part) for part in data.splits]
    assert sum(sizes) > 300_000
    known = torch.cat([part.tensors[1] for part in data.splits]) < NUM_CHARACTERS - 1
    assert known.float().mean() > 0.99


def test_a_python_without_its_reference_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(FileNotFoundError, match="Set `path` to a text file"):
        CharactersDataModule().setup("fit")


def test_a_missing_text_is_refused():
    data = CharactersDataModule("nowhere.txt")
    with pytest.raises(FileNotFoundError, match=r"Cannot read the text nowhere\.txt"):
        data.setup("fit")


def test_a_short_text_is_refused(numbered):
    data = CharactersDataModule(numbered, context=18)
    with pytest.raises(ValueError, match="got 180 characters, of which 18 would be validated on"):
        data.setup("fit")


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_an_impossible_share_is_refused(fraction):
    with pytest.raises(ValueError, match=r"`val_fraction` to be in \(0, 0\.5\)"):
        CharactersDataModule("text.txt", val_fraction=fraction)


def test_a_text_of_another_encoding_is_refused_with_its_line(tmp_path):
    (tmp_path / "text.txt").write_bytes("tea\ncaf\u00e9\n".encode("latin-1") * 100)
    with pytest.raises(ValueError, match=r"text.txt: line 2 is not UTF-8 text\. Save"):
        CharactersDataModule(str(tmp_path / "text.txt"), context=3).setup("fit")
