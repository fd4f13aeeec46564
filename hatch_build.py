"""The README as a package index shows it: with links that lead from there to the repository."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\[\]]*)\]\((?!https?:|mailto:|#)([^)]+)\)")


def with_absolute_links(text: str, repository: str) -> str:
    """Let links and pictures of a page lead to a repository: an index has no files beside it.

    Args:
        text: The page, in Markdown.
        repository: Address of the repository on GitHub.

    Example:
        >>> with_absolute_links("See [more](docs/more.md).", "https://github.com/a/b")
        'See [more](https://github.com/a/b/blob/main/docs/more.md).'
    """

    def absolute(found: re.Match[str]) -> str:
        mark, words, path = found.groups()
        return f"{mark}[{words}]({repository}/{'raw' if mark else 'blob'}/main/{path})"

    return LINK.sub(absolute, text)


class AbsoluteReadme(MetadataHookInterface):
    """Takes the README into the metadata, its links made absolute."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`; see hatchling's `MetadataHookInterface`."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        page = with_absolute_links(text, metadata["urls"]["Source"])
        metadata["readme"] = {"content-type": "text/markdown", "text": page}
