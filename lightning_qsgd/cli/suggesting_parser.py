"""A parser whose errors suggest the nearest name, and what it has parsed as plain values."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from enum import Enum
from functools import reduce
from inspect import signature
from operator import or_
from pathlib import Path
from pkgutil import iter_modules
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_dumper, set_loader

from lightning_qsgd.cli.commands import nearest_name

EXTRAS = {
    "plot": ("matplotlib", "pylatexenc"),
    "compare": ("optuna",),
    "zoo": ("pytorch_optimizer",),
    "ray": ("ray",),
    "llm": ("transformers", "datasets", "peft"),
    "hardware": ("qiskit_ibm_runtime",),
    "completion": ("argcomplete",),
}
"""The modules that each extra of pyproject.toml brings, beside other extras."""


class SuggestingParser(ArgumentParser):
    """jsonargparse's parser, with short errors that end in "did you mean" where it helps."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Report an error in the arguments, with a suggestion, and exit with status 2."""
        plain = concise(message)
        hint = "" if "Did you mean" in message else about_class_paths(message)
        if hint in message:  # from the parser of a part: this one only adds where that part is
            hint = ""
        words = f"{plain.rstrip().rstrip('.')}.{hint}" if hint else plain
        super().error(with_suggestion(words, _known_names(self)), ex)
        raise SystemExit(2)  # not reached; says so to the type checker

    def add_class_arguments(self, *given: Any, **keywords: Any) -> list[str]:
        """Add what a class takes; a whole number stays one where a fraction would do as well.

        `limit_val_batches: 1` is one batch, and 1.0 all of them. Python keeps the first of
        `Union[int, float]` and `Union[float, int]` for both. If somebody wrote the latter before
        Lightning was imported, as rich does, the parser would make 1.0 of 1.
        """
        added: list[str] = super().add_class_arguments(*given, **keywords)
        for action in self._actions:
            if hasattr(action, "_typehint"):
                action._typehint = _whole_numbers_first(action._typehint)
        return added

    def print_usage(self, file: Any = None) -> None:
        """Leave out the sixty lines of usage in front of an error: `--help` has them."""
        if file is not sys.stderr:
            super().print_usage(file)


def _whole_numbers_first(kind: Any) -> Any:
    kinds = [*get_args(kind)] if get_origin(kind) in (Union, UnionType) else []
    if int not in kinds or float not in kinds or kinds.index(int) < kinds.index(float):
        return kind
    return reduce(or_, [int, *(other for other in kinds if other is not int)])


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
    lines = [line for line, before in zip(lines, ["", *lines], strict=False) if line != before]
    return "\n".join(lines).removeprefix("  - ") or message


_NOISE = re.compile(
    r"\s*(?:- )?(Does not validate against any of the Union subtypes|Subtypes: |Errors:$"
    r"|Expected a path but .* either not accessible or invalid$"
    r"|Given value type|Given value: (?:Namespace|NestedArg|\{)|Expected a <class 'NoneType'>$)"
)


def about_class_paths(message: str) -> str:
    """Say more about a class path that was refused: what it may have meant, or what to import.

    Args:
        message: Error message of the parser.

    Example:
        >>> about_class_paths("module 'torch.optim' has no attribute 'AdmW'")
        ' Did you mean torch.optim.AdamW?'
    """
    missing = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message)
    if missing is not None:
        module, name = missing.groups()
        nearest = get_close_matches(name, dir(sys.modules.get(module)), n=1)
        return f" Did you mean {module}.{nearest[0]}?" if nearest else ""
    absent = re.search(r"No module named '([\w.]+)'", message)
    if absent is not None:
        return _about_absent(absent[1])
    wrong = re.search(r"does not correspond to a subclass of (\w+)", message)
    value = re.search(r"Given value: ['\"]?([\w.]+)", message)
    return _about_kind(value[1], wrong[1]) if wrong and value else ""


def about_module(name: str, places: Iterable[str] | None) -> str:
    """Say what a missing module may be: one that an extra brings, or another name; or nothing.

    Args:
        name: Import path of the module.
        places: Folders of the package around it, None for all folders of `sys.path`.

    Example:
        >>> about_module("optuna.samplers", None)
        " Install the extra `compare`: pip install 'lightning-qsgd[compare]'."
    """
    for extra, modules in EXTRAS.items():
        if name.partition(".")[0] in modules:
            return f" Install the extra `{extra}`: pip install 'lightning-qsgd[{extra}]'."
    parent, dot, last = name.rpartition(".")
    known = {found.name for found in iter_modules(places)}
    nearest = get_close_matches(last, known, n=1, cutoff=0.75) if last not in known else []
    return f" Did you mean {parent}{dot}{nearest[0]}?" if nearest else ""


def _about_absent(name: str) -> str:
    parent = name.rpartition(".")[0]
    around = getattr(sys.modules.get(parent), "__path__", ())
    hint = about_module(name, around if parent else [*sys.path, os.getcwd()])
    nowhere = " Modules are looked for in the current folder and among the installed packages."
    return hint or nowhere


OTHER_NAME = "pytorch_lightning"


def _about_kind(path: str, wanted: str) -> str:
    """Explain why a class is not of the wanted kind although its name may say so."""
    module, _, name = path.rpartition(".")
    if module.partition(".")[0] == OTHER_NAME:
        return (
            f" It is a class of `{OTHER_NAME}`, which differs from that of `lightning` by the same "
            f"name. Write {path.replace(OTHER_NAME, 'lightning.pytorch', 1)}."
        )
    found = getattr(sys.modules.get(module), name, None)
    foreign = [
        base for base in getattr(found, "__mro__", ()) if base.__module__.startswith(OTHER_NAME)
    ]
    if not foreign:
        return f" {path} is no {wanted}."
    return (
        f" {path} is a {foreign[0].__name__} of `{OTHER_NAME}`, which differs from that of "
        "`lightning` by the same name. Write `import lightning.pytorch as pl` in its module, in "
        f"place of `import {OTHER_NAME} as pl`."
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
    nearest = nearest_name(wrong, candidates) or nearest_name(wrong.split(".")[0], candidates)
    return f"{message.rstrip('.')}. Did you mean {nearest}?" if nearest else message


_UNKNOWN = re.compile(
    r"(?:unrecognized arguments: -*|(?:Group '(?P<group>[\w.]+)' )?does not accept option '"
    r"|^\s*Option ')(?P<name>[\w.]+)"
    r"|class_path '(?P<owner>[\w.]+)':\s+Option '(?P<option>\w+)[\w.]*' is not accepted"
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


FORMAT = "plain_values"
UNWRITABLE = "Unable to serialize instance "
"""How jsonargparse marks a default that is an object, such as a function or a device."""


def plain_config(
    parser: ArgumentParser, config: Namespace, with_links: bool = False
) -> dict[str, Any]:
    """Return a configuration as plain values, every default included that can be written.

    A default that is an object, such as `device` of StochasticWeightAveraging, has no plain form:
    it is left out, and whoever reads the values takes the same default.

    Args:
        parser: Parser of the subcommand.
        config: What it has parsed.
        with_links: Whether to keep values that a link takes from other ones; a parser refuses them.
    """
    kept = {"skip_none": False, "skip_check": True, "skip_link_targets": not with_links}
    dumped = parser.dump(config, format=FORMAT, **kept)
    plain: dict[str, Any] = _without_unwritable(yaml.safe_load(dumped))
    return plain


class _Writer(yaml.SafeDumper):
    """Writes what YAML has no form for as the words that the parser would read, or marks it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_undefined(self, data: Any) -> yaml.Node:  # type: ignore[override]
        if isinstance(data, Enum):
            return self.represent_data(data.value if isinstance(data, str) else data.name)
        if isinstance(data, Path):
            return self.represent_data(str(data))
        for kind in (str, bool, int, float):
            if isinstance(data, kind):  # a subclass, such as a restricted number
                return self.represent_data(kind(data))
        if isinstance(data, dict | list | tuple | set | frozenset):
            plain = dict(data) if isinstance(data, dict) else list(data)
            return self.represent_data(plain)
        return self.represent_data(f"{UNWRITABLE}{type(data).__name__}")


_Writer.add_representer(None, _Writer.represent_undefined)  # type: ignore[arg-type]
_Writer.add_representer(tuple, lambda writer, data: writer.represent_data(list(data)))


def _written(data: Any) -> str:
    return yaml.dump(
        data, Dumper=_Writer, sort_keys=False, allow_unicode=True, default_flow_style=False
    )


for _format in (FORMAT, "yaml"):  # YAML as well: Lightning saves each run's config in it
    set_dumper(_format, _written)


def _without_unwritable(node: Any) -> Any:
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if not _is_unwritable(value)}
        return {key: _without_unwritable(value) for key, value in kept.items()}
    if isinstance(node, list):
        return [_without_unwritable(item) for item in node]
    return node


def _is_unwritable(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(UNWRITABLE)


def read_yaml(text: str) -> Any:
    """Read YAML as jsonargparse does, and refuse a key that a mapping has twice.

    YAML itself would take the last one, so that half of a config is dropped silently.

    Raises:
        YAMLError: If a key is given twice.
    """
    if isinstance(text, str) and ":" in text:
        for key, line in _repeated(yaml.compose(text, Loader=yaml.SafeLoader), set()):
            raise yaml.YAMLError(
                f"`{key}` is given twice in one mapping, again in line {line}: only one of them "
                "could count. Keep one."
            )
    return _read_by_default(text)


def says(lines: Any, path: str) -> bool:
    """Tell whether lines of a config say something at a place or in it, however they spell it.

    Example:
        >>> says({"optimizer": {"init_args.betas": [0.9, 0.99]}}, "optimizer.init_args.betas.0")
        True
    """
    return any(_plain(place).startswith(_plain(f".{path}")) for place in _places_in(lines, ""))


def _plain(path: str) -> str:
    return f"{path}.".replace(".init_args.", ".")  # which lines may leave out


def _places_in(node: Any, path: str) -> Iterator[str]:
    yield path
    inner = node.items() if isinstance(node, Mapping) else ()
    for key, one in enumerate(node) if isinstance(node, list | tuple) else inner:
        yield from _places_in(one, f"{path}.{key}")


def _repeated(node: Any, seen: set[int]) -> Iterator[tuple[str, int]]:
    if id(node) in seen or not isinstance(node, yaml.MappingNode | yaml.SequenceNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item, seen)
        return
    keys: set[str] = set()
    for key, value in node.value:
        if key.value in keys and isinstance(key, yaml.ScalarNode) and key.value != "<<":
            yield key.value, key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            keys.add(key.value)
        yield from _repeated(value, seen)


_read_by_default = get_loader("yaml")
set_loader("yaml", read_yaml, exceptions=(yaml.YAMLError,))
