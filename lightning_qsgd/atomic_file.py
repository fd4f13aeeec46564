"""Files that are either complete or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that no reader, and no killed writer, ever leaves or sees half of it.

    Args:
        path: File to write or replace; its folder must exist.
        content: The whole content.

    Raises:
        FileNotFoundError: If there is no such folder.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "a.txt", b"whole")
        ...     (Path(folder) / "a.txt").read_text()
        'whole'
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes a path's place when the block ends without an exception.

    Args:
        path: File to write or replace; its folder must exist.

    Yields:
        A file to write to and to read from, in the same folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        OSError: If the disk is full, with the path; what lay at it is still there.
    """
    try:
        with NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as temporary:
            try:
                yield temporary.file
                temporary.flush()
                os.fsync(temporary.fileno())
                os.chmod(temporary.name, 0o644)  # a temporary file is readable by its owner only
                os.replace(temporary.name, path)
            except BaseException:  # a full disk, a folder in the way, Ctrl-C
                os.unlink(temporary.name)
                raise
    except OSError as error:
        error.filename = error.filename or str(path)  # that of a full disk names no file
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the new name survive a power cut too, where the system can."""
    with suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
