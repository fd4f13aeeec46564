"""Loading from Hugging Face's hub or a folder, with errors that name the remedy."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from importlib import import_module
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen


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
not installed. Install it with `pip install 'lightning-qsgd[llm]'`.
    """
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library.split(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"Cannot import {library}: language models need an extra that is not installed. "
            "Install it with `pip install 'lightning-qsgd[llm]'`.",
            name=error.name,
        ) from None


Loaded = TypeVar("Loaded")
HUB = "https://huggingface.co"
SECONDS = 5.0
"""How long the hub may take to answer before it counts as out of reach."""


def hub_answers() -> bool:
    """Ask the hub for a sign of life.

    Its own clients try again for half a minute per file where there is no network; this asks
    once. `HF_ENDPOINT`, `HF_HUB_OFFLINE` and the proxies of the environment are respected.

    Returns:
        Whether anything answered.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    try:
        with urlopen(os.environ.get("HF_ENDPOINT", HUB), timeout=SECONDS):
            return True
    except HTTPError:
        return True  # an answer, if not a friendly one
    except (OSError, HTTPException, ValueError):
        return False


def from_hub(what: str, remedy: str, load: Callable[[], Loaded]) -> Loaded:
    """Load something from the hub, or from the hub's cache on this machine where it is offline.

    Args:
        what: What is loaded, for the message.
        remedy: What to do where it cannot be loaded, a sentence.
        load: Loads it with a library of Hugging Face.

    Returns:
        What `load` returned.

    Raises:
        RuntimeError: If the hub does not answer and has left no copy here, or refuses.
    """
    answers = hub_answers()
    try:
        if answers:
            return load()
        with _offline():
            return load()
    except (OSError, ValueError) as error:
        reason = (
            f"the hub said: {_first_line(error)}"
            if answers
            else "the hub does not answer, and there is no earlier download on this machine"
        )
        raise RuntimeError(f"Cannot load {what}: {reason}. {remedy}") from error


@contextmanager
def _offline() -> Iterator[None]:
    """Keep the clients from trying for minutes; they read these settings at each call."""
    places = [load_extra("huggingface_hub.constants"), load_extra("datasets.config")]
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
