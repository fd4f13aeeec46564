"""A parser that answers a misspelt name with the nearest known one."""

import re
from difflib import get_close_matches
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser


class SuggestingParser(LightningArgumentParser):
    """`LightningArgumentParser` whose errors end in "did you mean" where that helps."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Report an error in the arguments, with a suggestion, and exit with status 2."""
        super().error(with_suggestion(message, _known_names(self)), ex)
        raise SystemExit(2)  # not reached; says so to the type checker


def with_suggestion(message: str, known: list[str]) -> str:
    """Add the known name nearest to the unknown one in an error message.

    Args:
        message: Error message of the parser.
        known: Names that would have been right.

    Example:
        >>> with_suggestion("Unrecognized arguments: --trainer.max_epoch=3", ["trainer.max_epochs"])
        'Unrecognized arguments: --trainer.max_epoch=3. Did you mean trainer.max_epochs?'
    """
    unknown = re.search(
        r"[Uu]nrecognized arguments?: -*([\w.]+)|[Kk]ey \"?'?([\w.]+)\"?'? is not expected"
        r"|[Nn]o action for key \"?'?([\w.]+)",
        message,
    )
    if unknown is None:
        return message
    name = next(group for group in unknown.groups() if group)
    nearest = get_close_matches(name, known, n=1, cutoff=0.7)
    return f"{message.rstrip('.')}. Did you mean {nearest[0]}?" if nearest else message


def _known_names(parser: Any) -> list[str]:
    names = {action.dest for action in parser._actions if action.dest not in ("help", "==")}
    subcommands = getattr(parser, "_subcommands_action", None)
    for subparser in (subcommands.choices if subcommands else {}).values():
        names |= {action.dest for action in subparser._actions}
    return sorted(names)
