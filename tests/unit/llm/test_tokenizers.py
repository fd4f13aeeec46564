"""Tokenizers: trained on the data, or loaded, and the texts they lay out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_qsgd.llm import PretrainedTokenizer, TrainedTokenizer, hub
from lightning_qsgd.llm.problems import DATE, Problem, prompt_and_answer
from tests.llm_cases import CHAT_TEMPLATE, VOCAB_SIZE, problems, tokenizer

PROBLEM = Problem("1 + 1?", "#### 2")


def test_training_twice_gives_the_same_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = set()
    for name in ("one", "two", "three"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        written.add(tokenizer().backend_tokenizer.to_str())
    assert len(written) == 1
    assert len(list(tmp_path.rglob("tokenizer-*.json"))) == 3


def test_digits_stay_apart_however_often_they_stand_together() -> None:
    own = TrainedTokenizer(280).build(["rolls 1234"] * 50)
    tokens = own.convert_ids_to_tokens(own("rolls 1234")["input_ids"])
    assert (tokens[0], tokens[-4:]) == ("rolls", ["1", "2", "3", "4"])


def test_vocabulary_has_the_size_asked_for() -> None:
    own = tokenizer()
    assert len(own) == VOCAB_SIZE
    assert (own.pad_token_id, own.eos_token_id, own.chat_template) == (0, 1, None)


@given(st.text(max_size=40))
def test_every_text_can_be_written_and_read_back(text: str) -> None:
    own = TrainedTokenizer(258).build([])
    ids = own(text, add_special_tokens=False)["input_ids"]
    assert own.decode(ids) == text


def test_vocabulary_without_room_for_every_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="`vocab_size` to be at least 258, got 100"):
        TrainedTokenizer(100)


def test_saved_tokenizer_is_loaded_from_its_folder(tmp_path: Path) -> None:
    own = tokenizer()
    own.save_pretrained(tmp_path)
    loaded = PretrainedTokenizer(str(tmp_path)).build([])
    text = problems()[0].question
    assert loaded(text)["input_ids"] == own(text)["input_ids"]


def test_tokenizer_that_is_nowhere_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    with pytest.raises(RuntimeError, match=r"tokenizer nobody/none: the hub does not .*hf down"):
        PretrainedTokenizer("nobody/none").build([])


def test_plain_prompt_asks_and_the_answer_ends() -> None:
    prompt, answer = prompt_and_answer(tokenizer(), PROBLEM)
    assert (prompt, answer) == ("Question: 1 + 1?\nAnswer:", " #### 2<end>")


def test_chat_template_is_used_where_there_is_one() -> None:
    own = tokenizer()
    own.chat_template = CHAT_TEMPLATE
    prompt, answer = prompt_and_answer(own, PROBLEM)
    assert (prompt, answer) == ("<user>1 + 1?<end><assistant>", "#### 2<end>")


def test_date_in_a_template_does_not_change_with_the_day() -> None:
    own = tokenizer()
    own.chat_template = "{{ date_string }}" + CHAT_TEMPLATE
    assert prompt_and_answer(own, PROBLEM)[0].startswith(DATE)


def test_template_that_rewrites_its_beginning_is_refused() -> None:
    own = tokenizer()
    own.chat_template = "{{ messages | length }}" + CHAT_TEMPLATE
    with pytest.raises(ValueError, match="prompt is the beginning of the whole dialogue, got"):
        prompt_and_answer(own, PROBLEM)
