"""One comparison per folder at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LOCK = "compare.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, creating it where needed.

    The system itself releases the lock when its owner ends, however it ends: one left behind by a
    killed process stands in nobody's way.

    Args:
        folder: Folder of one comparison, or of a suite.

    Raises:
        RuntimeError: If another process holds it.
        ValueError: If nothing can be written there, or something in it is a symbolic link.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, locked(Path(folder)):
        ...     (Path(folder) / LOCK).exists()
        True
    """
    _refuse_links(folder)
    with _opened(folder) as file:
        _lock(file, folder)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def require_free(folder: Path) -> None:
    """Refuse a folder that another process holds; nothing is written, and it need not be there.

    Args:
        folder: Folder of one comparison.

    Raises:
        RuntimeError: If another process holds it.
    """
    if (folder / LOCK).is_file():
        with (folder / LOCK).open() as file:
            _lock(file, folder)


def _lock(file: TextIO, folder: Path) -> None:
    import fcntl  # not on Windows, where the rest of the package works

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        raise RuntimeError(
            f"The folder {folder} is in use by another comparison (process {owner}): two in "
            "one folder would overwrite each other's runs. Wait for it to end, or choose "
            "another `--folder`."
        ) from None


def _refuse_links(folder: Path) -> None:
    """Refuse a folder in which something points elsewhere: writing would go there.

    Raises:
        ValueError: If it holds a symbolic link.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (path := Path(place) / name).is_symlink():
                raise ValueError(
                    f"Cannot work in {folder}: {path} is a symbolic link, through which files "
                    "elsewhere would be written. Put what it points to in its place, or remove it."
                )


def _opened(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK).open("a+")
    except OSError as error:
        raise ValueError(
            f"Cannot store a comparison in {str(folder)[:200]}: {error.strerror}. Choose a "
            "`--folder` that can be written to."
        ) from error
