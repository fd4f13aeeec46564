"""What is wrong with a command line as far as can be told at once.

Parsers know more, but to make them torch, Lightning and qiskit must be imported: seconds in which
somebody waits for the answer that a word was misspelt. What has no near name is left to them.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from lightning_qsgd.cli.commands import COMMANDS
from lightning_qsgd.cli.suggesting_parser import read_yaml, with_suggestion


def refuse_misspelt(arguments: Sequence[str]) -> None:
    """Refuse an option, or a key at the top of a config, that is a misspelt one of the command.

    Args:
        arguments: What follows `lightning-qsgd`, names of shipped configs resolved.

    Raises:
        ValueError: If there is one, or a file given with `--config` holds no mapping in YAML.

    Example:
        >>> refuse_misspelt(["fit", "--model=MLP", "--trainer.max_epochs=3"])
        >>> refuse_misspelt(["fit", "--modle=MLP"])
        Traceback (most recent call last):
        ValueError: unrecognized arguments: --modle=MLP. Did you mean model?
    """
    command = arguments[0]
    known = COMMANDS[command].options if command in COMMANDS else ()
    if not known:
        return
    for option in arguments[1:]:
        if option.startswith("--"):
            _refuse(option.removeprefix("--"), known, f"unrecognized arguments: {option}")
    for path in _configs_in(arguments):
        for key in _keys_of(path):
            _refuse(key, known, f"{path}: `{command}` does not accept option '{key}'")


def _refuse(name: str, known: Sequence[str], message: str) -> None:
    root = re.match(r"[\w-]*", name)[0]  # type: ignore[index]
    if any(option.startswith(root) for option in known):  # parsers take options that are cut short
        return
    said = with_suggestion(message, [*known])
    if said != message:
        raise ValueError(said)


def _configs_in(arguments: Sequence[str]) -> Iterator[Path]:
    for before, given in zip(arguments, [*arguments[1:], ""], strict=True):
        option, _, value = before.partition("=")
        path = Path(value or given)
        if option in ("--config", "-c") and path.is_file():
            yield path


def _keys_of(path: Path) -> list[str]:
    try:
        found = read_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        where = str(error).replace('"<unicode string>"', str(path))
        raise ValueError(f"Cannot read {path} as YAML: {where}") from error
    except (OSError, UnicodeDecodeError):
        return []  # the parser has words for it
    if not isinstance(found, dict):
        raise ValueError(
            f"Expected {path} to hold options and their values, such as `seed_everything: 1`, got "
            f"{found!r:.60}. Write a mapping."
        )
    return [str(key) for key in found]
