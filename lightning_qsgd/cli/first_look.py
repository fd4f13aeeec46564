"""What can be answered at once: misspelt words, and what a command takes.

Parsers know more, but to make them torch, Lightning and qiskit must be imported: seconds in which
somebody waits for the answer that a word was misspelt. Here the source of a class is read instead,
and nothing is imported. What has no near name, or cannot be told from the source, is left to them.
"""

import ast
import builtins
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

import yaml
from docstring_parser import parse

from lightning_qsgd.argument_checks import text_of
from lightning_qsgd.cli.commands import COMMANDS, Command, nearest_name
from lightning_qsgd.cli.suggesting_parser import about_module, read_yaml


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
    found = {str(path): _mapping_in(path) for path in _configs_in(arguments)}
    typed = [{name.removesuffix(".class_path"): text} for name, text in _values_in(arguments)]
    for group, value in (item for given in typed for item in given.items()):
        if command.groups.get(group) == "":
            _refuse_class(value, f"--{group}")
    for option in arguments[1:]:
        if option.startswith("--"):
            _refuse_option(option, command, [*found.values(), *typed])
    for where, mapping in found.items():
        _refuse_keys(mapping, arguments[0], where)
        if arguments[0] == "compare":
            _refuse_in_arms(mapping, where)


def _refuse_option(option: str, command: Command, configs: Sequence[Mapping[Any, Any]]) -> None:
    name, message = option.removeprefix("--"), f"unrecognized arguments: {option}"
    group, dot, rest = name.partition(".")
    if not dot or group not in command.options:
        _refuse(name, [*command.options], message)
    elif group in command.groups:
        known = arguments_of(command.groups[group] or _chosen(group, configs)) or {}
        part = rest.removeprefix("init_args.")
        _refuse(part, [*known, *_ALWAYS] if known else [], message, f"{group}.")


def _chosen(group: str, configs: Sequence[Mapping[Any, Any]]) -> str:
    """Find the class that a user chose for a group; empty if it is none, or not the same twice."""
    given = [config[group] for config in configs if config.get(group)]
    paths = {str(one.get("class_path") if isinstance(one, Mapping) else one) for one in given}
    return paths.pop() if len(paths) == 1 else ""


_ALWAYS = ("class_path", "init_args", "dict_kwargs", "help")
"""What parsers take in a group beside the arguments of its class."""


def _refuse(name: str, known: Sequence[str], message: str, group: str = "") -> None:
    root = re.match(r"[\w-]*", name)[0]  # type: ignore[index]
    if any(option.startswith(root) for option in known):  # parsers take options that are cut short
        return
    nearest = nearest_name(root, known)
    if nearest:
        raise ValueError(f"{message}. Did you mean {group}{nearest}?")


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
            _refuse_class(value, where)


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
        if isinstance(item, Mapping) and isinstance(item.get("class_path"), str):
            _refuse_class(item["class_path"], where)
            if isinstance(item.get("init_args"), Mapping):
                _refuse_arguments(item["class_path"], item["init_args"], where)


def _refuse_class(path: Any, where: str) -> None:
    """Refuse the path of a class that is not where it is said to be, if a near one is."""
    if not isinstance(path, str) or not re.fullmatch(r"\w+(\.\w+)+", path):
        return
    module, _, name = path.rpartition(".")
    _refuse_module(module, where)
    known = _names_of(_file_of(module))
    hidden = "__getattr__" in known and module != "lightning_qsgd"  # whose names are all written
    if name in known or "*" in known or hidden:
        return
    nearest = get_close_matches(name, known, n=1)
    if nearest:
        hint = f"Did you mean {module}.{nearest[0]}?"
        raise ValueError(f"{where}: module '{module}' has no attribute '{name}'. {hint}")


def _refuse_module(module: str, where: str) -> None:
    parent = module.rpartition(".")[0]
    if parent:
        _refuse_module(parent, where)
    around = _spec_of(parent) if parent else None
    places = around.submodule_search_locations if around is not None else None
    if (parent and not places) or module in sys.modules or _spec_of(module) is not None:
        return
    hint = about_module(module, places)
    if hint:
        raise ValueError(f"{where}: No module named '{module}'.{hint}")


def _refuse_in_arms(plan: Mapping[Any, Any], where: str) -> None:
    """Look through the arms of a comparison, and what they change in the experiment."""
    arms = plan.get("arms")
    lines = {where: plan.get("experiment")}
    for name, arm in (arms if isinstance(arms, Mapping) else {}).items():
        if isinstance(arm, Mapping):
            _refuse_arguments("lightning_qsgd.compare.planning.ArmPlan", arm, where, f"arms.{name}")
            lines[f"{where}, arm `{name}`"] = arm.get("overlay")
    for place, given in lines.items():
        for changed in given if isinstance(given, list) else [given]:
            if isinstance(changed, Mapping):
                _refuse_keys(changed, "fit", place)


def _values_in(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """List options without their dashes, each with what follows it, which may be no value of it."""
    for before, given in zip(arguments, [*arguments[1:], ""], strict=True):
        option, equals, value = before.partition("=")
        if option.startswith("-"):
            yield option.lstrip("-"), value if equals else given


def _configs_in(arguments: Sequence[str]) -> Iterator[Path]:
    for option, value in _values_in(arguments):
        if option in ("config", "c") and Path(value).is_file():
            yield Path(value)


def _mapping_in(path: Path) -> Mapping[Any, Any]:
    try:
        found = read_yaml(text_of(path))
    except yaml.YAMLError as error:
        where = str(error).replace('"<unicode string>"', str(path))
        raise ValueError(f"Cannot read {path} as YAML: {where}") from error
    except OSError:
        return {}  # the parser has words for it
    if not isinstance(found, dict):
        raise ValueError(
            f"Expected {path} to hold options and their values, such as `seed_everything: 1`, got "
            f"{'an empty file' if found is None else repr(found)[:60]}. Write a mapping."
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
        return _signature(own[0], module)
    known: dict[str, str] = {}
    for base in {ast.unparse(base) for base in node.bases} - {"ABC", "Protocol"}:
        inherited = arguments_of(f"{module}.{base}")
        if inherited is None:
            return None
        known |= inherited
    return known | (_fields(node, module) if "dataclass" in decorators else {})


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


def _signature(function: ast.stmt, module: str) -> dict[str, str] | None:
    if not isinstance(function, ast.FunctionDef) or function.name != "__init__":
        return None
    taken = function.args
    if taken.vararg or taken.kwarg or {*map(_called, function.decorator_list)} - _TRANSPARENT:
        return None
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs][1:]
    return {one.arg: _annotation(one.annotation, module) for one in every}


_TRANSPARENT = {"override", "_defaults_from_env_vars"}
"""Decorators of `__init__` that keep its arguments; the second is that of Lightning's Trainer."""


def _fields(node: ast.ClassDef, module: str) -> dict[str, str]:
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
    return {ast.unparse(part.target): _annotation(part.annotation, module) for part in fields}


def _annotation(node: ast.expr | None, module: str) -> str:
    """Write an annotation; empty for none, and for a name of another type, such as a `dict`."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} if node else set()
    for name in names - _PLAIN:
        _, bound = _find(f"{module}.{name}") or ("", None)
        if isinstance(bound, ast.Name):
            return ""
    return ast.unparse(node) if node else ""


_PLAIN = {*dir(builtins), *typing.__all__}


def _called(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).rpartition(".")[2]


def _find_class(class_path: str) -> tuple[str, ast.ClassDef] | None:
    module, node = _find(class_path) or ("", None)
    return (module, node) if isinstance(node, ast.ClassDef) else None


def _find(path: str) -> tuple[str, ast.AST] | None:
    """Follow imports from module to module, to where a name is bound to something else."""
    for _ in range(8):  # longer than any chain that is not a circle
        module, _, name = path.rpartition(".")
        file = _file_of(module)
        names = _names_of(file)
        bound = [*names.get(name, ()), *names.get("*", ())]
        if file is None or len(bound) != 1:  # bound twice: which of them counts is not known here
            return None
        if not isinstance(bound[0], ast.ImportFrom):
            return module, bound[0]
        original = next((p.name for p in bound[0].names if (p.asname or p.name) == name), None)
        if original is None:  # a wildcard: it may bind the name, or not
            return None
        package = module if file.stem == "__init__" else module.rpartition(".")[0]
        source = resolve_name("." * bound[0].level + (bound[0].module or ""), package)
        path = f"{source}.{original}"
    return None


def _file_of(module: str) -> Path | None:
    spec = _spec_of(module)
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def _spec_of(module: str) -> ModuleSpec | None:
    """Find a module; unlike `find_spec`, this does not import the package around it."""
    first, *rest = module.split(".")
    try:
        spec = find_spec(first)
        for count in range(len(rest)):
            places = spec.submodule_search_locations if spec is not None else None
            name = ".".join([first, *rest[: count + 1]])
            spec = _inside(name, places) if places is not None else None
    except (ImportError, ValueError):
        return None
    return spec


def _inside(name: str, places: Sequence[str]) -> ModuleSpec | None:
    """Find a module in the folders of its package."""
    try:
        return PathFinder.find_spec(name, places)
    except KeyError:  # a folder without `__init__.py` in one that is not imported
        spec, last = ModuleSpec(name, None, is_package=True), name.rpartition(".")[2]
        spec.submodule_search_locations = [str(Path(place, last)) for place in places]
        return spec


def _names_of(file: Path | None) -> Mapping[str, Sequence[ast.AST]]:
    """List the names that a module binds, and what binds each; a `*` may bind any."""
    try:
        return _names_in(file.read_bytes()) if file is not None else {}
    except (OSError, SyntaxError, ValueError):
        return {}


@cache
def _names_in(source: bytes) -> Mapping[str, Sequence[ast.AST]]:
    # Names can come out of sight with these words.
    hides = re.search(rb"\b(?:global|globals|locals|vars|setattr|exec|sys)\b", source)
    names: dict[str, list[ast.AST]] = {"*": []} if hides else {}
    for name, node in _bound(ast.parse(source)):
        names.setdefault(name, []).append(node)
    return names


def _bound(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Go through what is outside of functions and classes."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield child.name, child
                continue
            case ast.Import() | ast.ImportFrom():
                yield from ((part.asname or part.name, child) for part in child.names)
            case ast.Name(id=found, ctx=ast.Store()):
                yield found, child
        yield from _bound(child)
