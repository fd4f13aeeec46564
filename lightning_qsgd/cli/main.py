"""The entry point of the command."""

import argparse
import logging
import os
import shutil
import sys
import textwrap
import warnings
from importlib.metadata import version
from typing import Any

from lightning_qsgd.cli.commands import (
    COMMANDS,
    INTERRUPTED,
    OWN,
    PROGRAM,
    TERMINATED,
    in_one_message,
    overview,
    refuse_unknown,
)


def hush() -> None:
    """Drop Lightning's advertisements and three warnings that every run of this command gives.

    `LeafSpec` is Lightning's own use of torch; that `--optimizer` overrides the module's default
    optimizer is what the option is for; arguments are handed on with names of configs resolved.
    """
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*is deprecated")
    warnings.filterwarnings("ignore", message=r".*configure_optimizers` will be overridden by")
    warnings.filterwarnings("ignore", message=r".*LightningCLI's args parameter is intended")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Errors that this package raises about its input are printed without a traceback; set
    ``LIGHTNING_QSGD_DEBUG=1`` to see it. So is a disk that is full. The exit status is then 2, 130
    after Ctrl-C, and 143 after a SIGTERM.

    Args:
        arguments: Command-line arguments; those of the process by default.
    """
    try:
        _run(arguments)
    except KeyboardInterrupt:  # mostly while torch is imported: a training stops by itself
        sys.stderr.write("Interrupted.\n")
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        sys.exit(_status(end))


def _status(end: SystemExit) -> Any:
    """Return the status of a shell: Lightning ends a stopped training with 1, a SIGTERM with 0."""
    if isinstance(end.__context__, KeyboardInterrupt):
        return INTERRUPTED
    return TERMINATED if type(end).__name__ == "SIGTERMException" else end.code


def _run(arguments: list[str] | None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    if "_ARGCOMPLETE" in os.environ:
        given = completing(os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])])
    if not given or given[0] in ("-h", "--help"):
        sys.stdout.write(overview() + "\n")
        sys.exit(0)
    if given[0] == "--version":
        sys.stdout.write(f"{PROGRAM} {version(PROGRAM)}\n")
        sys.exit(0)
    refuse_unknown(given[0])
    find_modules_here()
    hush()
    with in_one_message():
        from lightning_qsgd.cli.configs_command import with_shipped_configs
        from lightning_qsgd.cli.first_look import refuse_misspelt

        known = given[0] in COMMANDS and COMMANDS[given[0]].options.get("help")
        if known and given[1:] in (["-h"], ["--help"]):
            sys.stdout.write(short_help(given[0]) + "\n")
            sys.exit(0)
        given = [given[0], "--help"] if given[1:] == ["--help", "all"] else given
        given = with_shipped_configs(given)
        refuse_misspelt(given)
        if given[0] in OWN:
            OWN[given[0]].run(given[1:])
        else:
            from lightning_qsgd.cli.perturbation_cli import PerturbationCLI

            PerturbationCLI(args=given)


def short_help(name: str) -> str:
    """Write what a command takes, a line for each option; `--help all` is the parser's own.

    Args:
        name: Name of the command.
    """
    from lightning_qsgd.cli.first_look import described

    command = COMMANDS[name]
    words = {key: text for path in command.described_in for key, text in described(path).items()}
    rows = {key: text or words.get(key, "") for key, text in command.options.items()}
    lines = [f"usage: {PROGRAM} {name} --config CONFIG [--OPTION VALUE ...]", ""]
    lines += [f"{command.summary[0].upper()}{command.summary[1:]}.", ""]
    for key, text in rows.items():
        lines += _row(f"--{key}", text)
        group = command.groups.get(key)
        for part, said in (described(group) if group else {}).items():
            lines += _row(f"  --{key}.{part}", said)
    return "\n".join(lines)


def _row(option: str, text: str) -> list[str]:
    indent, width = " " * 34, min(shutil.get_terminal_size().columns, 110) - 2
    lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    if len(option) > len(indent) - 4 or not lines:
        return [f"  {option}", *lines]
    return [f"  {option}".ljust(len(indent)) + lines[0].lstrip(), *lines[1:]]


def completing(line: str) -> list[str]:
    """Offer the commands to a shell, or return the one whose parser offers what follows.

    Args:
        line: What was typed before the cursor.
    """
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line[-1].isspace()):
        from argcomplete import autocomplete  # the shell's hook comes with it

        parser = argparse.ArgumentParser(PROGRAM)
        parser.add_argument("command", choices=[*COMMANDS])
        autocomplete(parser, always_complete_options="long")  # exits
    if words[1] not in COMMANDS:
        sys.exit(1)  # nothing to offer
    os.environ["_ARGCOMPLETE"] = "2"  # its parser starts behind the command
    return [words[1]]


def find_modules_here() -> None:
    """Let a config name modules in the current folder, as ``python train.py`` would find them.

    The folder comes last: a file of the user's never hides an installed package.
    """
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
