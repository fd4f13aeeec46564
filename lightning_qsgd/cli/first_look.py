"""What can be answered at once: misspelt words, and what a command takes.

Parsers know more, but to make them torch, Lightning and qiskit must be imported: seconds in which
somebody waits for the answer that a word was misspelt. Here the source of a class is read instead,
and nothing is imported. What has no near name, or cannot be told from the source, is left to them.
"""

import ast
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.machinery import PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

import yaml
from docstring_parser import parse

from lightning_qsgd.cli.commands import COMMANDS, PROGRAM, Command
from lightning_qsgd.cli.suggesting_parser import read_yaml


def refuse_misspelt(arguments: Sequence[str]) -> None:
    """Refuse an option, or a key of a config, that is a misspelt one of the command.

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
    command = COMMANDS.get(arguments[0])
    if command is None or not command.options:
        return
    for option in arguments[1:]:
        if option.startswith("--"):
            _refuse_option(option, command)
    for path in _configs_in(arguments):
        found = _mapping_in(path)
        _refuse_keys(found, arguments[0], str(path))
        if arguments[0] == "compare":
            _refuse_in_arms(found, str(path))


def _refuse_option(option: str, command: Command) -> None:
    name, message = option.removeprefix("--"), f"unrecognized arguments: {option}"
    group, dot, rest = name.partition(".")
    if not dot or group not in command.options:
        _refuse(name, [*command.options], message)
    elif command.groups.get(group):
        known = arguments_of(command.groups[group]) or {}
        _refuse(rest, [*known, *_ALWAYS] if known else [], message, f"{group}.")


_ALWAYS = ("class_path", "init_args", "dict_kwargs", "help")
"""What parsers take in a group beside the arguments of its class."""


def _refuse(name: str, known: Sequence[str], message: str, group: str = "") -> None:
    root = re.match(r"[\w-]*", name)[0]  # type: ignore[index]
    if any(option.startswith(root) for option in known):  # parsers take options that are cut short
        return
    nearest = get_close_matches(root, known, n=1, cutoff=0.7)
    if nearest:
        raise ValueError(f"{message}. Did you mean {group}{nearest[0]}?")


def _refuse_keys(found: Mapping[Any, Any], name: str, where: str) -> None:
    """Look through the options of a command in a mapping, their groups and their classes."""
    command = COMMANDS[name]
    for key, value in found.items():
        option = str(key)
        _refuse(option, [*command.options], f"{where}: `{name}` does not accept option '{key}'")
        group = command.groups.get(option)
        if group and isinstance(value, Mapping) and "class_path" not in value:
            _refuse_arguments(group, value, where, option)
        elif group is not None:
            _refuse_in_classes(value, where)


def _refuse_arguments(path: str, given: Mapping[Any, Any], where: str, group: str = "") -> None:
    """Look through what a class is given, and through the classes in it."""
    known = arguments_of(path) or {}
    owner = f"Group '{group}' does" if group else f"{path} does"
    for key, value in given.items() if known else ():
        name = str(key)
        message = f"{where}: {owner} not accept option '{name}'"
        _refuse(name, [*known, *_ALWAYS], message, f"{group}." if group else "")
        if _HOLDS_CLASS.fullmatch(known.get(name, "")):
            _refuse_in_classes(value, where)


_HOLDS_CLASS = re.compile(r"(?!.*\b(?:[Dd]ict|Mapping|Any|object)\b).+", re.DOTALL)
"""Annotations under which parsers make a class of what names one; a plain `dict` stays a dict."""


def _refuse_in_classes(value: Any, where: str) -> None:
    for item in value if isinstance(value, list) else [value]:
        given = item.get("init_args") if isinstance(item, Mapping) else None
        if isinstance(given, Mapping) and isinstance(item.get("class_path"), str):
            _refuse_arguments(item["class_path"], given, where)


def _refuse_in_arms(plan: Mapping[Any, Any], where: str) -> None:
    """Look through the arms of a comparison, and what they change in the experiment."""
    arms = plan.get("arms")
    lines = {where: plan.get("experiment")}
    for name, arm in (arms if isinstance(arms, Mapping) else {}).items():
        if isinstance(arm, Mapping):
            _refuse_arguments("lightning_qsgd.compare.planning.ArmPlan", arm, where, f"arms.{name}")
            lines[f"{where}, arm `{name}`"] = arm.get("overlay")
    for place, changed in lines.items():
        if isinstance(changed, Mapping):
            _refuse_keys(changed, "fit", place)


def short_help(name: str) -> str:
    """Write what a command takes, a line for each option; `--help all` is the parser's own.

    Args:
        name: Name of the command.
    """
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


def _configs_in(arguments: Sequence[str]) -> Iterator[Path]:
    for before, given in zip(arguments, [*arguments[1:], ""], strict=True):
        option, _, value = before.partition("=")
        path = Path(value or given)
        if option in ("--config", "-c") and path.is_file():
            yield path


def _mapping_in(path: Path) -> Mapping[Any, Any]:
    try:
        found = read_yaml(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        where = str(error).replace('"<unicode string>"', str(path))
        raise ValueError(f"Cannot read {path} as YAML: {where}") from error
    except (OSError, UnicodeDecodeError):
        return {}  # the parser has words for it
    if not isinstance(found, dict):
        raise ValueError(
            f"Expected {path} to hold options and their values, such as `seed_everything: 1`, got "
            f"{found!r:.60}. Write a mapping."
        )
    return found


def arguments_of(class_path: str) -> dict[str, str] | None:
    """Read in its source what a class takes, without importing it.

    Args:
        class_path: Import path of the class, such as `torch.optim.SGD`.

    Returns:
        Annotations by the names of the arguments, empty where there is none. None if it cannot be
        told: the class takes any keyword, is decorated, or is made in another way than by `class`.

    Example:
        >>> arguments_of("lightning_qsgd.Alignment")
        {'sharpness': 'float'}
    """
    module, node = _find_class(class_path) or ("", None)
    if node is None:
        return None
    own = [part for part in node.body if getattr(part, "name", "") in ("__init__", "__new__")]
    decorators = {_called(decorator) for decorator in node.decorator_list}
    if decorators - {"dataclass", "final", "runtime_checkable"} or node.keywords or len(own) > 1:
        return None
    if own:
        return _signature(own[0])
    known: dict[str, str] = {}
    for base in {ast.unparse(base) for base in node.bases} - {"ABC", "Protocol"}:
        inherited = arguments_of(f"{module}.{base}")
        if inherited is None:
            return None
        known |= inherited
    return known | (_fields(node) if "dataclass" in decorators else {})


def described(class_path: str) -> dict[str, str]:
    """Read in its docstrings what the arguments of a class are: the first sentence of each.

    Args:
        class_path: Import path of the class.

    Example:
        >>> described("lightning_qsgd.training.Goal")["loss"]
        'Tag of the training loss, logged at every step.'
    """
    _, node = _find_class(class_path) or ("", None)
    known = arguments_of(class_path)
    if node is None or known is None:
        return {}
    makers = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.ClassDef)]
    texts = [ast.get_docstring(part) or "" for part in (node, *makers) if part.name != "__call__"]
    said = {one.arg_name: one.description for text in texts for one in parse(text).params}
    return {name: _first_sentence(said.get(name) or "") for name in known}


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.:])\s+(?=[A-Z])", " ".join(text.split()))[0]


def _signature(function: ast.stmt) -> dict[str, str] | None:
    if not isinstance(function, ast.FunctionDef) or function.name != "__init__":
        return None
    taken = function.args
    if taken.vararg or taken.kwarg or {*map(_called, function.decorator_list)} - _TRANSPARENT:
        return None
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs][1:]
    return {one.arg: ast.unparse(one.annotation) if one.annotation else "" for one in every}


_TRANSPARENT = {"override", "_defaults_from_env_vars"}
"""Decorators of `__init__` that keep its arguments; the second is that of Lightning's Trainer."""


def _fields(node: ast.ClassDef) -> dict[str, str]:
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
    return {ast.unparse(part.target): ast.unparse(part.annotation) for part in fields}


def _called(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).rpartition(".")[2]


def _find_class(class_path: str) -> tuple[str, ast.ClassDef] | None:
    """Follow imports from module to module, to where a class is defined."""
    for _ in range(8):  # longer than any chain that is not a circle
        module, _, name = class_path.rpartition(".")
        file = _file_of(module)
        tree = _parsed(file) if file is not None else None
        bound = [*_bindings(tree, name)] if tree is not None else []
        if file is None or len(bound) != 1:  # bound twice: which of them counts is not known here
            return None
        if isinstance(bound[0], ast.ClassDef):
            return module, bound[0]
        if not isinstance(bound[0], ast.ImportFrom):
            return None
        original = next((p.name for p in bound[0].names if (p.asname or p.name) == name), None)
        if original is None:  # a wildcard: it may bind the name, or not
            return None
        package = module if file.stem == "__init__" else module.rpartition(".")[0]
        source = resolve_name("." * bound[0].level + (bound[0].module or ""), package)
        class_path = f"{source}.{original}"
    return None


def _file_of(module: str) -> Path | None:
    """Find the source of a module; unlike `find_spec`, it does not import the package around it."""
    first, *rest = module.split(".")
    try:
        spec = find_spec(first)
        for count in range(len(rest)):
            places = spec.submodule_search_locations if spec is not None else None
            name = ".".join([first, *rest[: count + 1]])
            spec = PathFinder.find_spec(name, places) if places is not None else None
    except (ImportError, ValueError):
        return None
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _parsed(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _bindings(node: ast.AST, name: str) -> Iterator[ast.AST]:
    """Find what binds a name in a module, a wildcard included, outside of functions."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if child.name == name:
                    yield child
                continue
            case ast.Import() | ast.ImportFrom():
                if {name, "*"} & {part.asname or part.name for part in child.names}:
                    yield child
            case ast.Name(id=found, ctx=ast.Store()) if found == name:
                yield child
        yield from _bindings(child, name)
