"""The house: layers, walls and sizes, read from the source with `ast`."""

import ast
import re
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "lightning_qsgd"
FILES = sorted(ROOT.rglob("*.py"))
PACKAGE = ROOT.name
ALLOWED = {
    "circuits": {"argument_checks"},
    "backends": {"circuits"},
    "perturbations": {"argument_checks", "circuits", "backends"},
    "optimizers": {"backends", "perturbations"},
    "nn": {"argument_checks", "circuits", "backends"},
    "data": {"argument_checks"},
    "metrics": set(),
    "llm": {"argument_checks", "atomic_file", "data"},
    "tracking": {"optimizers"},  # a report's type, for the type checker only
    "training": {
        "atomic_file",
        *("circuits", "backends", "perturbations", "optimizers"),
        *("nn", "data", "metrics", "tracking"),
    },
    "compare": {"atomic_file", "metrics", "tracking", "training"},
    "cli": {
        *("argument_checks", "atomic_file", "late_names"),
        *("circuits", "backends", "perturbations", "optimizers"),
        *("nn", "data", "tracking", "training", "compare"),
    },
}
"""What each room may import of the package; the order is that of the layers."""

WALLS = {
    "qiskit": {"circuits", "backends"},
    "qiskit_machine_learning": {"circuits", "backends"},
    "qiskit_aer": {"circuits", "backends"},
    "lightning": {"data", "llm", "training", "cli"},
    "tensorboard": {"tracking"},
    "torch.utils.tensorboard": {"tracking"},
    "jsonargparse": {"cli"},
    "sklearn": {"data"},
    "scipy": {"compare"},
    "transformers": {"llm"},
    "tokenizers": {"llm"},
    "datasets": {"llm"},
    "peft": {"llm"},
    "rich": {"compare", "cli"},
}
"""Who may know the libraries that are confined to rooms."""

LONGEST_FILE = 400
MOST_FILES = 210


def room(file: Path) -> str:
    parts = file.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def imports(file: Path) -> list[str]:
    """Names of all modules that a file imports, wherever in the file."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} uses a relative import"
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def is_of(name: str, library: str) -> bool:
    return name == library or name.startswith(f"{library}.")


def own_imports(file: Path) -> set[str]:
    """Files of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and is_of(node.module or "", PACKAGE):
            for alias in node.names:
                # `from room import file` means the file, and not the room that gathers it.
                inner = _file_of(f"{node.module}.{alias.name}")
                found.add(inner or _file_of(str(node.module)))
    return found - {None}


def _file_of(module: str) -> str | None:
    path = ROOT.parent / Path(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((str(c) for c in candidates if c.exists()), None)


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


every_file = pytest.mark.parametrize("file", FILES, ids=named)
inner_file = pytest.mark.parametrize("file", [f for f in FILES if room(f)], ids=named)


def test_every_room_has_a_place_in_the_layers() -> None:
    assert {room(file) for file in FILES} - {""} == ALLOWED.keys()


@inner_file
def test_imports_point_one_way(file: Path) -> None:
    rooms = {name.split(".")[1] for name in imports(file) if name.startswith(f"{PACKAGE}.")}
    assert rooms - {room(file)} <= ALLOWED[room(file)]


@inner_file
def test_nothing_imports_the_package_root_from_inside(file: Path) -> None:
    assert PACKAGE not in imports(file)


@every_file
def test_libraries_stay_behind_their_walls(file: Path) -> None:
    for library, rooms in WALLS.items():
        if room(file) not in rooms:
            inside = [name for name in imports(file) if is_of(name, library)]
            assert not inside, f"{library} belongs to {sorted(rooms)}"


def test_layers_have_no_cycle() -> None:
    shared = {"argument_checks", "atomic_file", "late_names"}
    assert set(TopologicalSorter(ALLOWED).static_order()) == ALLOWED.keys() | shared


def test_files_have_no_cycle() -> None:
    # A package's __init__ gathers what its files define: they may not import it back.
    graph = {str(file): own_imports(file) - {str(file)} for file in FILES}
    tracking_type = str(ROOT / "optimizers" / "report.py")
    graph[str(ROOT / "tracking" / "tags.py")].discard(tracking_type)
    assert set(TopologicalSorter(graph).static_order()) == {*graph, *chain(*graph.values())}


def test_folders_have_no_cycle() -> None:
    # What a folder and its sub-folders gather counts for each of them; the few files beside the
    # rooms are leaves of their own.
    graph: dict[str, set[str]] = {}
    for file in FILES:
        if room(file):
            inner = {Path(name) for name in own_imports(file) if room(Path(name))}
            graph.setdefault(named(file.parent), set()).update(named(f.parent) for f in inner)
    for folder, reached in graph.items():
        reached.discard(folder)
    graph["tracking"].discard("optimizers")  # a report's type, for the type checker only
    graph["backends/samplers"].discard("backends")  # the sampler with keys, and what it serves
    assert set(TopologicalSorter(graph).static_order()) == {*graph, *chain(*graph.values())}


def test_package_has_few_files() -> None:
    assert len(FILES) <= MOST_FILES


def test_type_of_a_report_is_imported_by_the_type_checker_only() -> None:
    for node in ast.parse((ROOT / "tracking" / "tags.py").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            assert not is_of(node.module or "", f"{PACKAGE}.optimizers")


@every_file
def test_file_is_short_enough_to_read(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LONGEST_FILE


@every_file
def test_library_prints_nothing(file: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if _is_call(node)]
    assert "print" not in [call.id for call in calls if isinstance(call, ast.Name)]


@inner_file
def test_consoles_are_made_in_one_place(file: Path) -> None:
    # Else the one next door takes a user's `[x]` for a style, and `:smile:` for a picture.
    if named(file) != "cli/commands.py":
        assert "Console(" not in file.read_text()


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call)


@every_file
def test_file_has_a_docstring_and_a_name_that_says_something(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text()))
    assert file.stem not in {"utils", "helpers", "common", "misc"}


def test_where_to_change_what_names_files_that_exist() -> None:
    page = (ROOT.parent / "docs" / "design.md").read_text()
    files = re.findall(r"[ `(]((?:[a-z_]+/)+[a-z_]+\.py)", page)
    assert len(files) >= 12
    assert [
        file for file in files if not any((at / file).is_file() for at in (ROOT, ROOT.parent))
    ] == []
