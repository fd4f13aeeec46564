"""Word problems and the prompts that ask them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from lightning_qsgd.argument_checks import text_of
from lightning_qsgd.llm.hub import from_hub, load_extra

HUB_NAME, HUB_CONFIG = "openai/gsm8k", "main"
GET_IT = (
    "Get train.jsonl and test.jsonl of the repository openai/grade-school-math on GitHub (folder "
    "grade_school_math/data) and give their folder as `path`, e.g. "
    "`--data.init_args.path=data/gsm8k`."
)


class Problem(NamedTuple):
    """Hold one word problem.

    Args:
        question: The story and what is asked.
        answer: The worked solution, which ends with `#### <number>`.
    """

    question: str
    answer: str


class Problems(NamedTuple):
    """Hold the two files of a set.

    Args:
        train: Problems to learn from and to validate on.
        test: Problems to report on; empty if there are none.
    """

    train: list[Problem]
    test: list[Problem]


def parse_problems(text: str, origin: str) -> list[Problem]:
    r"""Parse JSON lines.

    Args:
        text: One JSON object a line with the strings `question` and `answer`.
        origin: Where the text is from, for messages.

    Returns:
        The problems in their order.

    Raises:
        ValueError: If a line is no such object, or there is none.

    Example:
        >>> parse_problems('{"question": "1 + 1?", "answer": "#### 2"}\n', "a file")
        [Problem(question='1 + 1?', answer='#### 2')]
    """
    problems = [
        _parse_line(line, f"line {number} of {origin}")
        # Not splitlines(): JSON strings may hold other line breaks, such as U+2028, as they are.
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not problems:
        raise ValueError(f"Expected problems in {origin}, got none: the file is empty. {GET_IT}")
    return problems


def _parse_line(line: str, place: str) -> Problem:
    try:
        fields: Any = json.loads(line)
        question, answer = fields["question"], fields["answer"]
    except (ValueError, TypeError, KeyError):
        question = answer = None
    if not (isinstance(question, str) and isinstance(answer, str)):
        raise ValueError(
            f"Expected a JSON object with the strings `question` and `answer` in {place}, got "
            f"{line[:60]!r}: it cannot be trained on. Mend the line, or get the file again."
        )
    return Problem(question, answer)


def read_problems(path: str) -> Problems:
    """Read a folder with `train.jsonl` and `test.jsonl`, or one file to train on.

    Args:
        path: The folder or the file; relative to the current folder.

    Returns:
        The problems; none to test on where there is no `test.jsonl`.

    Raises:
        FileNotFoundError: If there is nothing to train on.
        ValueError: If a file holds anything else.
    """
    given = Path(path)
    train = given / "train.jsonl" if given.is_dir() else given
    if not train.is_file():
        raise FileNotFoundError(
            f"Cannot read the problems in {path}: there is no {train} in {Path.cwd()}. {GET_IT}"
        )
    test = given / "test.jsonl"
    return Problems(_read(train), _read(test) if test.is_file() else [])


def _read(file: Path) -> list[Problem]:
    return parse_problems(text_of(file), str(file))


def download_problems(name: str = HUB_NAME) -> Problems:
    """Load GSM8K from the Hugging Face hub, or from its cache on this machine.

    Args:
        name: Name on the hub, or a folder laid out like a data set of the hub.

    Returns:
        The problems of its parts `train` and `test`.

    Raises:
        RuntimeError: If the hub cannot be reached and was never reached before.
        ModuleNotFoundError: Without the extra `llm`.

    References:
        Cobbe et al., Training Verifiers to Solve Math Word Problems, arXiv:2110.14168.
    """
    datasets = load_extra("datasets")
    parts = from_hub(f"{name} without `path`", GET_IT, lambda: _load(datasets, name))
    train, test = (
        [Problem(row["question"], row["answer"]) for row in parts[part]]
        for part in ("train", "test")
    )
    return Problems(train, test)


def _load(datasets: Any, name: str) -> Any:
    return datasets.load_dataset(name, HUB_CONFIG)


DATE = "26 Jul 2024"
"""Llama's template puts today's date into every prompt unless it is given one."""


def prompt_and_answer(tokenizer: Any, problem: Problem) -> tuple[str, str]:
    r"""Lay a problem out as the tokenizer's chat template says, or plainly where it has none.

    Args:
        tokenizer: A tokenizer of transformers with an end token.
        problem: The problem.

    Returns:
        What the model reads, and what it is to write after it, the end token included.

    Raises:
        ValueError: If the template changes its opening when the answer is known, so that it cannot
            be said where the answer begins.

    Example:
        >>> from types import SimpleNamespace
        >>> plain = SimpleNamespace(chat_template=None, eos_token="<end>")
        >>> prompt_and_answer(plain, Problem("1 + 1?", "#### 2"))
        ('Question: 1 + 1?\nAnswer:', ' #### 2<end>')
    """
    if tokenizer.chat_template is None:
        return f"Question: {problem.question}\nAnswer:", f" {problem.answer}{tokenizer.eos_token}"
    asked = [{"role": "user", "content": problem.question}]
    answered = [*asked, {"role": "assistant", "content": problem.answer}]
    options: dict[str, Any] = {"tokenize": False, "date_string": DATE}
    prompt: str = tokenizer.apply_chat_template(asked, add_generation_prompt=True, **options)
    whole: str = tokenizer.apply_chat_template(answered, **options)
    if not whole.startswith(prompt):
        raise ValueError(
            "Expected a chat template whose prompt is the beginning of the whole dialogue, got "
            f"{prompt[-40:]!r} and {whole[: len(prompt)][-40:]!r}: it cannot be said which tokens "
            "are the answer. Use another template, or set the tokenizer's `chat_template` to None."
        )
    return prompt, whole[len(prompt) :]
