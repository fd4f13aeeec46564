"""The configs that the package ships: found by name, listed, and copied for editing.

In the wheel they lie inside the package, in a clone beside it. `--config digits` and
``overlay: arms/alignment`` are names of them; a file of the user's always comes first.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_qsgd.argument_checks import text_of
from lightning_qsgd.cli.commands import plain_console
from lightning_qsgd.cli.suggesting_parser import SuggestingParser

if TYPE_CHECKING:
    from rich.console import Console

    from lightning_qsgd.compare.planning import Lines

PACKAGE = Path(__file__).parent.parent
FILE_OPTIONS = ("--config", "-c", "--arm")
"""Options of the command whose value may be the name of a shipped config."""

DEFAULT_KINDS = ("experiments", "arms", "compare", "suites")
"""Folders in which a bare name is looked up, in this order."""


def shipped_folder() -> Path:
    """Return the folder of the shipped configs: in the wheel, or in a clone beside the package.

    Raises:
        FileNotFoundError: If the package was installed without them.
    """
    for folder in (PACKAGE / "configs", PACKAGE.parent / "configs"):
        if (folder / "experiments").is_dir():
            return folder
    raise FileNotFoundError(
        f"The configs of lightning-qsgd are not installed: they are looked for in {PACKAGE} and "
        "beside it. Install the wheel, or work in a clone."
    )


def shipped_configs() -> Iterator[tuple[str, Path]]:
    """Yield the name and the path of each shipped config, such as ``arms/nudge``."""
    folder = shipped_folder()
    for path in sorted(folder.rglob("*.yaml")):
        yield path.relative_to(folder).with_suffix("").as_posix(), path


def find_shipped(name: str, first: str = "experiments") -> Path | None:
    """Find a shipped config by name.

    Args:
        name: ``digits``, ``arms/alignment``, or a path that ends like one of them, such as
            ``configs/arms/alignment.yaml``.
        first: Folder in which a bare name is looked up before the others.

    Returns:
        Its path; None if there is none of that name.

    Example:
        >>> find_shipped("digits").name, find_shipped("digits", first="compare").parent.name
        ('digits.yaml', 'compare')
        >>> find_shipped("configs/arms/nudge.yaml") == find_shipped("arms/nudge")
        True
    """
    known = dict(shipped_configs())
    parts = [part for part in Path(name.removesuffix(".yaml")).parts if part != ".."]
    if parts[:1] == ["configs"]:
        parts = parts[1:]
    asked = "/".join(parts)
    kinds = dict.fromkeys((first, *DEFAULT_KINDS))
    candidates = (asked, *(f"{kind}/{asked}" for kind in kinds))
    return next((known[candidate] for candidate in candidates if candidate in known), None)


def parts_of(given: Lines | None, folder: Path, what: str) -> list[Path | str]:
    """Return the files that are named, and the lines that stand in a plan itself.

    Args:
        given: The name of a file, the lines themselves, or several of either.
        folder: Folder of the plan, from which its paths start.
        what: What they are, for error messages.

    Raises:
        FileNotFoundError: If a file is not there, and no shipped config has its name.
    """
    from lightning_qsgd.compare.planning.job import as_yaml  # late: the list needs no torch

    parts = given if isinstance(given, list) else [given]
    return [
        as_yaml(part) if isinstance(part, dict) else _found(part, folder, what)
        for part in parts
        if part is not None and part != {}
    ]


def text_in(part: Path | str) -> str:
    """Return the text of a file, or lines as they are."""
    return text_of(part) if isinstance(part, Path) else part


def _found(file: str, folder: Path, what: str) -> Path:
    for path in (folder / file, Path(file), find_shipped(file)):
        if path is not None and path.is_file():
            return path
    raise FileNotFoundError(
        f"Cannot read the {what}: there is no file {file} in {folder}, nor in the current folder, "
        "and no shipped config has that name (`lightning-qsgd configs` lists them). Give the path "
        "relative to the comparison's config."
    )


def with_shipped_configs(arguments: Sequence[str]) -> list[str]:
    """Replace names of shipped configs in the arguments of a command by their paths.

    Args:
        arguments: What follows ``lightning-qsgd``. A value that names an existing file stays.

    Raises:
        FileNotFoundError: If a value is the name of no file and of no shipped config.

    Example:
        >>> with_shipped_configs(["fit", "--trainer.max_epochs=1", "--config={seed_everything: 1}"])
        ['fit', '--trainer.max_epochs=1', '--config={seed_everything: 1}']
    """
    first = "compare" if arguments[:1] == ["compare"] else "experiments"
    replaced: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if before in FILE_OPTIONS:
            replaced.append(_path_of(argument, before, first))
        elif equals and option in FILE_OPTIONS:
            replaced.append(f"{option}={_path_of(value, option, first)}")
        else:
            replaced.append(argument)
    return replaced


def by_name(arguments: Sequence[str]) -> list[str]:
    """Replace paths of shipped configs by their names: a record should not hold a user's folders.

    Example:
        >>> by_name(["--config", str(find_shipped("arms/nudge")), "--seeds=8"])
        ['--config', 'arms/nudge', '--seeds=8']
    """
    names = {str(path): name for name, path in shipped_configs()}
    return [names.get(argument, argument) for argument in arguments]


def _path_of(value: str, option: str, first: str) -> str:
    if not _MAY_BE_A_PATH.fullmatch(value):
        return value  # the text of a config
    is_folder = Path(value).is_dir()  # it may have the name of a shipped config
    if Path(value).exists() and not is_folder:
        return value
    if option == "--arm" and "." in value and not value.endswith((".yaml", ".yml")):
        return value  # the class path of an optimizer
    found = find_shipped(value, first)
    if found is not None:
        return str(found)
    if is_folder:
        raise FileNotFoundError(f"{value} is a folder: give a file in it after `{option}`.")
    raise FileNotFoundError(_no_config(value))


_MAY_BE_A_PATH = re.compile(r"[\w./\\~+-]+")


def _no_config(name: str) -> str:
    known = [known for known, _ in shipped_configs()]
    known += [bare.rpartition("/")[2] for bare in known]
    nearest = get_close_matches(name.removesuffix(".yaml"), known, n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    return (
        f"There is no file {name}, and no shipped config has that name.{hint} "
        "`lightning-qsgd configs` lists those that exist."
    )


def configs_command(arguments: list[str]) -> None:
    """List the shipped configs, or copy one for editing.

    Args:
        arguments: What follows ``configs`` on the command line.

    Raises:
        SystemExit: With status 2 if an argument is wrong or a file would be overwritten.
    """
    parser = SuggestingParser(prog="lightning-qsgd configs", description=__doc__)
    commands = parser.add_subcommands(required=False, dest="command")
    commands.add_subcommand("list", SuggestingParser(description="List them (the default)."))
    copying = SuggestingParser(description="Copy a config to a folder, for editing.")
    copying.add_argument("name", type=str, help="Name of the config, such as digits.")
    copying.add_argument("folder", type=str, help="Where to; the folder is made if need be.")
    commands.add_subcommand("copy", copying)
    parsed = parser.parse_args(arguments)
    if parsed.command != "copy":
        _print_list(plain_console())
        return
    try:
        told = copy_config(parsed.copy.name, Path(parsed.copy.folder))
    except OSError as error:
        parser.error(str(error), error)
    plain_console().print(told, soft_wrap=True)  # a command in one piece


def copy_config(name: str, folder: Path) -> str:
    """Copy a shipped config; return one line that says where it lies and how to use it.

    Args:
        name: Name of the config.
        folder: Where to.

    Raises:
        FileNotFoundError: If no shipped config has that name.
        FileExistsError: If the file is there already.
        OSError: If the folder cannot be made or written, as where a part of its path is a file.
    """
    found = find_shipped(name)
    if found is None:
        raise FileNotFoundError(_no_config(name))
    target = folder / found.name
    if target.exists():
        raise FileExistsError(
            f"{target} exists already, and copying would overwrite it. Name another folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, target)
    except OSError as error:
        reason = "a part of this path is a file" if _has_file(folder) else str(error.strerror)
        raise type(error)(
            f"Cannot copy {found.name} to the folder {str(folder)!r}: {reason}. Name another "
            "folder, where you may write."
        ) from error
    use = f"{_use_of(found)} --config {shlex.quote(str(target))}"
    return f"Copied to {target}. Use it with: {use}"


def _has_file(folder: Path) -> bool:
    return any(part.is_file() for part in (folder, *folder.parents))


def _use_of(shipped: Path) -> str:
    """Return the command that takes a copy; an arm or a base changes an experiment beside it."""
    kind = shipped.relative_to(shipped_folder()).parts[0]
    if kind in ("compare", "suites"):
        return "lightning-qsgd compare"
    if kind == "experiments":
        return "lightning-qsgd fit"
    # The one that has the transformer, where the network is changed.
    changes_model = re.search("^model:", shipped.read_text(encoding="utf-8"), re.MULTILINE)
    return f"lightning-qsgd fit --config {'sequences' if changes_model else 'digits'}"


def _print_list(console: Console) -> None:
    from rich.table import Table

    table = Table("config", "what it is", box=None)
    for name, path in shipped_configs():
        table.add_row(name, first_comment(path))
    console.print(table)
    console.print(
        "Use one by its name, --config digits --config arms/sine_0.5; copy one with "
        "lightning-qsgd configs copy digits DIR.",
        soft_wrap=True,
    )


def first_comment(path: Path) -> str:
    """Return the first sentence of the comment at the top of a config; empty if it has none."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return re.split(r"(?<!\bEq)(?<!\bal)(?<!\bFig)\.\s", " ".join(lines))[0].rstrip(".")
