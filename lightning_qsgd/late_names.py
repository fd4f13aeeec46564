"""Names of a package that are imported when somebody asks for them."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def late_names(
    package: str, names: Sequence[str], places: Sequence[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make `__getattr__` and `__dir__` of a package that imports nothing by itself (PEP 562).

    Torch and qiskit take seconds to import. A command with a misspelt word is answered without
    them, since its package does not import them for names that it does not use.

    Args:
        package: Its `__name__`.
        names: Its `__all__`.
        places: Modules inside that define the names, in the order in which they are asked. Where
            each imports those before it, none is imported in vain.

    Returns:
        `__getattr__` and `__dir__`. Modules inside the package are found as attributes too.

    Example:
        >>> fetch, known = late_names("json", ["JSONDecoder"], ["scanner", "decoder"])
        >>> fetch("JSONDecoder").__name__
        'JSONDecoder'
        >>> fetch("JSONDecodr")
        Traceback (most recent call last):
        AttributeError: module 'json' has no attribute 'JSONDecodr'
    """

    def fetch(name: str) -> Any:
        if name in names:
            modules = (import_module(f"{package}.{place}") for place in places)
            found = next(vars(module)[name] for module in modules if name in vars(module))
            setattr(sys.modules[package], name, found)  # the next time there is nothing to fetch
            return found
        if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def known() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return fetch, known
