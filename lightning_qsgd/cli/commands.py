"""The commands: their names, what they are for, where they live, and how they refuse."""

import errno
import os
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "lightning-qsgd"
INTERRUPTED = 130
"""Exit status of a command that Ctrl-C has ended: 128 and the signal's number."""

TERMINATED = 143
"""Likewise of one that SIGTERM has ended."""


@dataclass(frozen=True)
class Command:
    """A command and where its function is; it is imported when the command is run.

    Args:
        summary: What it does, in one line of `--help`.
        function: Path of the function that takes the arguments after the name; empty for the
            commands of LightningCLI.
        options: First parts of its options and of the keys of its configs, as its parser has them,
            and what each is, for the short help. They are told apart before there is a parser; none
            are for a command whose parser is made at once.
        groups: Options that have parts, and the class whose arguments these are; an empty path for
            a class that the user chooses.
        described_in: Classes whose docstrings say what options without words are.
        knows_the_command_line: Whether the function also takes the recipe of the command line
            that it was called from, so that it trains what that one trains.
    """

    summary: str
    function: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    described_in: tuple[str, ...] = ()
    knows_the_command_line: bool = False

    def run(self, arguments: list[str], recipe: Any = None) -> None:
        """Import the function and call it.

        Args:
            arguments: What follows the name of the command.
            recipe: How to make the user's own command line; None for `lightning-qsgd` itself.
        """
        module, name = self.function.rsplit(".", 1)
        function = getattr(import_module(module), name)
        if self.knows_the_command_line:
            function(arguments, recipe)
        else:
            function(arguments)


_CLI = "lightning_qsgd.cli"
HELP = "show this; `--help all` also shows types, defaults and known classes"
FIT_OPTIONS = {
    "help": HELP,
    "config": "a shipped config by name, or a file; given again, the later one counts",
    "print_config": "show the whole configuration, and stop",
    "seed_everything": "seed of weights, data order and noise; 0 by default",
    "model": "class path of a LightningModule; --model.help CLASS shows what it takes",
    "data": "class path of a LightningDataModule; --data.help CLASS shows what it takes",
    "optimizer": "class path of an optimizer; --optimizer.lr 0.01 sets what it takes",
    "lr_scheduler": "class path of a schedule",
    "perturbation": "What is added to the optimizer's steps.",
    "baseline": "What to train beside it: `adamw`, `own`, or a mapping; see `Baseline`.",
    "goal": "What runs are judged by.",
    "run": "Where a run writes.",
    "search_space": "Ranges in which `compare` tunes it; a fit leaves them alone.",
    "ckpt_path": "checkpoint to go on from, or to evaluate",
    "weights_only": "whether the checkpoint may hold nothing but tensors",  # of Lightning 2.6 on
    "trainer": "Arguments of Lightning's Trainer.",
}
_FIT_GROUPS = {
    **dict.fromkeys(("model", "data", "optimizer", "lr_scheduler"), ""),
    "perturbation": "lightning_qsgd.perturbations.Perturbation",
    "baseline": f"{_CLI}.Baseline",
    "goal": "lightning_qsgd.training.Goal",
    "run": f"{_CLI}.RunPlace",
    "trainer": "lightning.pytorch.trainer.Trainer",
}
_VERBOSE = {"verbose": "whether to show the metrics"}


def _of_lightning(summary: str, **more: str) -> Command:
    """Describe a command of LightningCLI: all take the options of `fit`, and some a few more."""
    return Command(summary, options={**FIT_OPTIONS, **more}, groups=_FIT_GROUPS)


_PLANNING = "lightning_qsgd.compare.planning"
_COMPARE = {
    "help": HELP,
    "config": "a shipped config by name, or a file, with all of the below",
    "print_config": FIT_OPTIONS["print_config"],
    **dict.fromkeys(("experiment", "arms", "seeds", "budget", "goal", "tuning"), ""),
    **dict.fromkeys(("horizons", "alpha", "folder", "executor", "processes", "address"), ""),
    **dict.fromkeys(("unpaired", "changed"), ""),
    "published": "Figures of others, with their source, to show beside the measured ones.",
    "arm": "An arm to add, tuned as the baseline is: class path of an optimizer, or a config.",
    "only": "Arms to keep, with their controls.",
    "skip": "Arms to leave out.",
    "dry_run": "Show the plan and a forecast of its cost, and stop.",
    "dry-run": "the same",
    "tasks": "tasks of a suite, each with an experiment, a budget and a goal; in a file",
}
_COMPARE_GROUPS = {
    "budget": f"{_PLANNING}.Budget",
    "goal": f"{_PLANNING}.GoalPlan",
    "tuning": f"{_PLANNING}.Search",
}
COMMANDS = {
    "fit": _of_lightning("train a module, perturbed as the config says, beside a baseline"),
    "validate": _of_lightning("evaluate a checkpoint on the validation data", **_VERBOSE),
    "test": _of_lightning("evaluate a checkpoint on the test data", **_VERBOSE),
    "predict": _of_lightning(
        "predict with a checkpoint", return_predictions="whether to keep the predictions"
    ),
    "compare": Command(
        "arms x seeds of an experiment, with a verdict",
        f"{_CLI}.compare_command.compare_command",
        _COMPARE,
        _COMPARE_GROUPS,
        described_in=(f"{_PLANNING}.Plan", "lightning_qsgd.compare.running.Running"),
        knows_the_command_line=True,
    ),
    "report": Command(
        "rebuild the report of a comparison", f"{_CLI}.compare_command.report_command"
    ),
    "configs": Command(
        "list the shipped configs, or copy one for editing",
        f"{_CLI}.configs_command.configs_command",
    ),
    "circuit": Command(
        "draw, check or time the circuit of a perturbation",
        f"{_CLI}.circuit_command.circuit_command",
        dict.fromkeys(
            ("help", "backend", "arm", "features", "output", "rows", "seed", "circuits"), ""
        ),
    ),
    "doctor": Command(
        "show versions, devices, extras, and what a step would cost here",
        f"{_CLI}.doctor_command.doctor_command",
    ),
}

OWN = {name: command for name, command in COMMANDS.items() if command.function}
"""Those that this package adds to LightningCLI's."""


def overview() -> str:
    """Write the help of the program: every command in a line."""
    rows = [f"  {name:<10}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ...",
            "",
            "Perturb the steps of any torch optimizer, and measure whether that helps.",
            "",
            "commands:",
            *rows,
            "",
            "options:",
            "  --version   show the version",
            "  --help      show this; each command has a --help of its own",
        ]
    )


def plain_console(markup: bool = False) -> "Console":
    """Return the console of a command; paths and names show as they are.

    Rich would take `[x]` in a path for a style, `[/x]` for an error and `:smile:` for a picture.

    Args:
        markup: Whether the command styles its own words; it must escape those of the user then.

    Example:
        >>> plain_console().print("runs/[/x]/:smile:")
        runs/[/x]/:smile:
    """
    from rich.console import Console  # not at the top: `--help` must come at once

    return Console(markup=markup, emoji=False, highlight=False)


def nearest_name(name: str, known: Collection[str]) -> str:
    """Return what somebody may have meant by an unknown name; empty if nothing is near.

    Example:
        >>> nearest_name("strenght", ["strength", "seed"])
        'strength'
        >>> nearest_name("search_space", ["overlay", "space"])
        'space'
    """
    words = [word for word in reversed(name.split("_")) if word in known]
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.7) or words), "")


def refuse_unknown(name: str) -> None:
    """Refuse a command that does not exist, with the nearest that does.

    Raises:
        SystemExit: With status 2 if there is no such command.
    """
    if name in COMMANDS or name.startswith("-"):
        return
    nearest = get_close_matches(name, COMMANDS, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Commands are {', '.join(COMMANDS)}."
    sys.stderr.write(f"error: There is no command {name!r}. {hint}\n")
    raise SystemExit(2)


PACKAGE = Path(__file__).parent.parent

EXPECTED = (
    *(TypeError, ValueError, RuntimeError),
    *(ModuleNotFoundError, FileNotFoundError, TimeoutError),
)
"""What this package raises about its input."""

UNWRITABLE = {
    getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "EPIPE")
}
"""Errors of the system that no change of the input mends; some are unknown on Windows."""


@contextmanager
def in_one_message() -> Iterator[None]:
    """Show errors about the input, and a disk that is full, without a traceback.

    Errors of libraries and of the user's own code keep theirs, and so does every error where
    ``LIGHTNING_QSGD_DEBUG`` is set.

    Raises:
        SystemExit: With status 2, instead of such an error.
    """
    try:
        yield
    except EXPECTED as error:
        if os.environ.get("LIGHTNING_QSGD_DEBUG") or not _raised_here(error):
            raise
        _refuse(error, str(error))
    except OSError as error:
        if os.environ.get("LIGHTNING_QSGD_DEBUG") or error.errno not in UNWRITABLE:
            raise
        _drop_unwritten_output()
        _refuse(
            error,
            f"Cannot write {error.filename or 'a file, or what is shown here'}: {error.strerror}. "
            "What had been written before is complete. Make room, or choose a folder on another "
            "disk, and repeat the command. LIGHTNING_QSGD_DEBUG=1 shows where it was.",
        )


def _refuse(error: Exception, words: str) -> None:
    lines = [f"error: {words}", *getattr(error, "__notes__", [])]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(2)


def _drop_unwritten_output() -> None:
    """Let go what cannot be shown: Python would fail once more with it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):  # it may be no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _raised_here(error: BaseException) -> bool:
    """Whether the error was raised by this package's own code, not by a library or a model."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE)
