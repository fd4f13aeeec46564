"""The commands beside those of LightningCLI: their names, what they are for, where they live."""

import sys
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

PROGRAM = "lightning-qsgd"


@dataclass(frozen=True)
class Command:
    """A command and where its function is; it is imported when the command is run.

    Args:
        summary: What it does, in one line of `--help`.
        function: Path of the function that takes the arguments after the name; empty for the
            commands of LightningCLI.
        options: First parts of its options and of the keys of its configs, as its parser has them.
            They are told apart before there is a parser; none are for a command whose parser is
            made at once.
        knows_the_command_line: Whether the function also takes the recipe of the command line
            that it was called from, so that it trains what that one trains.
    """

    summary: str
    function: str = ""
    options: tuple[str, ...] = ()
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
_FIT = (
    *("help", "config", "print_config", "seed_everything", "trainer", "model", "data", "optimizer"),
    *("lr_scheduler", "perturbation", "baseline", "goal", "run", "search_space", "ckpt_path"),
    "weights_only",  # of Lightning 2.6 on
)
_COMPARE = (
    *("help", "config", "print_config", "experiment", "arms", "seeds", "budget", "tuning", "goal"),
    *(
        "changed",
        "horizons",
        "alpha",
        "unpaired",
        "published",
        "folder",
        "executor",
        "processes",
        "address",
    ),
    *("arm", "only", "skip", "dry_run", "dry-run"),
    "tasks",  # a key of suites
)
COMMANDS = {
    "fit": Command("train a module, perturbed as the config says, beside a baseline", "", _FIT),
    "validate": Command("evaluate a checkpoint on the validation data", "", (*_FIT, "verbose")),
    "test": Command("evaluate a checkpoint on the test data", "", (*_FIT, "verbose")),
    "predict": Command("predict with a checkpoint", "", (*_FIT, "return_predictions")),
    "compare": Command(
        "arms x seeds of an experiment, with a verdict",
        f"{_CLI}.compare_command.compare_command",
        _COMPARE,
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
        ("help", "backend", "arm", "features", "output", "rows", "seed", "circuits"),
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
