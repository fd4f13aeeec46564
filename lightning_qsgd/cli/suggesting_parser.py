"""A parser whose errors say what is wrong, and suggest the nearest name for a misspelt one."""

import re
import sys
from difflib import get_close_matches
from inspect import signature
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser


class SuggestingParser(LightningArgumentParser):
    """`LightningArgumentParser` whose errors are short and end in "did you mean" where it helps."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Report an error in the arguments, with a suggestion, and exit with status 2."""
        super().error(with_suggestion(concise(message), _known_names(self)), ex)
        raise SystemExit(2)  # not reached; says so to the type checker

    def print_usage(self, file: Any = None) -> None:
        """Leave out the sixty lines of usage in front of an error: `--help` has them."""
        if file is not sys.stderr:
            super().print_usage(file)


def concise(message: str) -> str:
    """Drop what the parser says about types that were not meant, and the value's full dump.

    Every optional group is a union with None, so each wrong value in one would come with "Expected
    a NoneType" and a dump of the whole group.

    Args:
        message: Error message of the parser.

    Example:
        >>> lines = ["Errors:", "  - Expected 4 to be 5.", "  - Expected a <class 'NoneType'>"]
        >>> concise(chr(10).join(lines))
        'Expected 4 to be 5.'
    """
    lines = [line for line in message.splitlines() if not _NOISE.match(line)]
    return "\n".join(lines).removeprefix("  - ") or message


_NOISE = re.compile(
    r"\s*(Does not validate against any of the Union subtypes|Subtypes: |Errors:$"
    r"|Given value type|Given value: (?:Namespace|NestedArg|\{)|- Expected a <class 'NoneType'>$)"
)


def with_suggestion(message: str, known: list[str]) -> str:
    """Add the known name nearest to the unknown one in an error message.

    Args:
        message: Error message of the parser.
        known: Names that would have been right.

    Example:
        >>> with_suggestion("unrecognized arguments: --goal.targte=3", ["goal.target"])
        'unrecognized arguments: --goal.targte=3. Did you mean goal.target?'
    """
    unknown = _UNKNOWN.search(message)
    if unknown is None or "Did you mean" in message:
        return message
    name, option = unknown["name"], unknown["option"]
    candidates = _parameters_of(unknown["owner"]) if option else known
    wrong = option or ".".join(filter(None, (unknown["group"], name)))
    nearest = [
        match
        for part in (wrong, wrong.split(".")[0])
        for match in get_close_matches(part, candidates, n=1, cutoff=0.7)
    ]
    return f"{message.rstrip('.')}. Did you mean {nearest[0]}?" if nearest else message


_UNKNOWN = re.compile(
    r"(?:unrecognized arguments: -*|(?:Group '(?P<group>[\w.]+)' )?does not accept option '"
    r"|^\s*Option ')(?P<name>[\w.]+)"
    r"|class_path '(?P<owner>[\w.]+)':\s+Option '(?P<option>\w+)' is not accepted"
)


def _parameters_of(class_path: str) -> list[str]:
    """List what a class takes; the parser has imported it already."""
    module, _, name = class_path.rpartition(".")
    return list(signature(getattr(sys.modules[module], name)).parameters)


def _known_names(parser: Any) -> list[str]:
    names = {action.dest for action in parser._actions if action.dest not in ("help", "==")}
    subcommands = getattr(parser, "_subcommands_action", None)
    for subparser in (subcommands.choices if subcommands else {}).values():
        names |= {action.dest for action in subparser._actions}
    return sorted(names)
