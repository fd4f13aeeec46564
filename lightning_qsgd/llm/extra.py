"""Import the libraries of the extra ``llm`` when they are needed, and not before."""

from importlib import import_module
from typing import Any


def load_extra(library: str) -> Any:
    """Import a library that only the extra ``llm`` installs.

    Args:
        library: Name of the module, e.g. "transformers".

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: If the library is not installed.

    Example:
        >>> load_extra("no_such_library")
        Traceback (most recent call last):
        ...
        ModuleNotFoundError: Cannot import no_such_library: language models need an extra that is \
not installed. Install it with `pip install lightning-qsgd[llm]`.
    """
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library.split(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"Cannot import {library}: language models need an extra that is not installed. "
            "Install it with `pip install lightning-qsgd[llm]`.",
            name=error.name,
        ) from None
