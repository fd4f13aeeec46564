"""Files that are either complete or not there."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile


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
    with NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.flush()
            os.fsync(temporary.fileno())
            os.chmod(temporary.name, 0o644)  # a temporary file is readable by its owner only
            os.replace(temporary.name, path)
        except BaseException:  # a full disk, a folder in the way, Ctrl-C
            os.unlink(temporary.name)
            raise
