"""Keep what took long to make in a file, safe against concurrent runs and damage."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from lightning_qsgd.atomic_file import write_atomically

DIGEST_BYTES = hashlib.sha256().digest_size


def cache_folder() -> Path:
    """Return the folder of cached files: `$XDG_CACHE_HOME/lightning-qsgd`, in `~/.cache` without.

    Example:
        >>> cache_folder().name
        'lightning-qsgd'
    """
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "lightning-qsgd"


def key_of(*parts: str | bytes) -> str:
    """Hash all that a cached file depends on.

    Args:
        parts: Contents and settings; their borders count.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> key_of("ab", "c") == key_of("a", "bc")
        False
    """
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def cached(name: str, make: Callable[[], bytes]) -> bytes:
    """Read a file of the cache; make it first if it is missing or damaged.

    A file is complete or not there: it is written beside its place and moved. Runs that start
    together may each make it, and each finds a whole one. A folder that cannot be written to
    costs the time of making it again, and nothing else.

    Args:
        name: Name of the file; it must hold the key of all that the content depends on.
        make: Makes the content.

    Returns:
        The content.

    Example:
        >>> import os
        >>> from unittest.mock import patch
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, patch.dict(os.environ, XDG_CACHE_HOME=folder):
        ...     first = cached("a", lambda: b"made")
        ...     cached("a", lambda: b"made again")
        b'made'
    """
    file = cache_folder() / name
    content = _read(file)
    if content is None:
        content = make()
        _write(file, content)
    return content


def _read(file: Path) -> bytes | None:
    try:
        stored = file.read_bytes()
    except OSError:
        return None
    digest, content = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, hashlib.sha256(content).digest() + content)
    except OSError:
        return  # a full disk or a folder of somebody else's: the content is made at every run
