"""Problems from a file, a folder and the hub, and what is said where there are none."""

import json
import socket
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import pytest

from lightning_qsgd.llm import hub, problems
from lightning_qsgd.llm.hub import from_hub, hub_answers
from lightning_qsgd.llm.problems import Problem, download_problems, parse_problems, read_problems
from tests.llm_cases import PROBLEMS


def test_folder_holds_problems_to_train_and_to_test_on() -> None:
    found = read_problems(str(PROBLEMS))
    assert (len(found.train), len(found.test)) == (30, 10)
    assert found.train[0].question.startswith("A bakery fills 7 trays")
    assert all("####" in problem.answer for problem in found.train + found.test)


def test_one_file_has_nothing_to_test_on() -> None:
    found = read_problems(str(PROBLEMS / "test.jsonl"))
    assert (len(found.train), len(found.test)) == (10, 0)


def test_missing_folder_says_how_to_get_the_data() -> None:
    with pytest.raises(FileNotFoundError, match=r"no nowhere in .*grade-school-math .*--data"):
        read_problems("nowhere")


@pytest.mark.parametrize(
    "line", ["no json", "[1, 2]", '{"question": "?"}', '{"question": 1, "answer": "a"}', "null"]
)
def test_line_that_is_no_problem_is_named(line: str) -> None:
    text = '{"question": "?", "answer": "!"}\n\n' + line
    with pytest.raises(ValueError, match=r"`question` and `answer` in line 3 of a file, got"):
        parse_problems(text, "a file")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85"])
def test_line_ends_only_where_json_lines_end(inside: str, end: str, tmp_path: Path) -> None:
    own = [Problem(f"a{inside}b", "#### 1"), Problem("c", f"#### 2{inside}")]
    lines = [json.dumps(problem._asdict(), ensure_ascii=False) for problem in own]
    file = tmp_path / "train.jsonl"
    file.write_bytes(end.join([*lines, ""]).encode())
    assert read_problems(str(file)).train == own
    assert parse_problems(end.join(lines), "a file") == own


def test_empty_file_is_refused() -> None:
    with pytest.raises(ValueError, match="problems in a file, got none: the file is empty"):
        parse_problems("\n", "a file")


def test_hub_out_of_reach_is_said_at_once_with_the_way_to_get_the_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra llm")
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(hub, "hub_answers", lambda: False)
    asked: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *given: asked.append(given))
    with pytest.raises(RuntimeError, match=r"the hub does not answer.*Get train.jsonl"):
        download_problems("nobody/such-a-set-does-not-exist")
    assert asked == []  # or it would be waited for
    assert datasets.config.HF_HUB_OFFLINE is False


def test_problems_come_through_the_library_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A folder laid out like a repository of the hub is loaded by the same code as the hub's own.
    datasets = pytest.importorskip("datasets", reason="needs the extra llm")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(hub, "hub_answers", lambda: True)
    repository = tmp_path / "repository"
    repository.mkdir()
    card = "configs:\n- config_name: main\n  data_files:\n" + "".join(
        f"  - {{split: {part}, path: {part}.jsonl}}\n" for part in ("train", "test")
    )
    (repository / "README.md").write_text(f"---\n{card}---\n")
    for part in ("train", "test"):
        text = (PROBLEMS / f"{part}.jsonl").read_text()
        (repository / f"{part}.jsonl").write_text(text)
    assert download_problems(str(repository)) == read_problems(str(PROBLEMS))


def test_what_the_hub_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_answers", lambda: True)

    def refuse() -> None:
        raise OSError("You need a licence.\nAsk for one at length.")

    with pytest.raises(RuntimeError, match=r"load it: the hub said: You need a licence. Do so\."):
        from_hub("it", "Do so.", refuse)


def test_hub_answers_where_anything_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(outcome: Exception) -> Any:
        def opened(*_: Any, **__: Any) -> None:
            raise outcome

        return opened

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "urlopen", answer(URLError("no route")))
    assert not hub_answers()
    monkeypatch.setattr(hub, "urlopen", answer(HTTPError("", 403, "no", None, None)))  # type: ignore[arg-type]
    assert hub_answers()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub_answers()


def test_own_texts_are_json_lines_of_problems() -> None:
    for line in (PROBLEMS / "train.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == set(Problem._fields)
    assert problems.HUB_NAME == "openai/gsm8k"
