"""A report as a list of blocks, before it is known whether it becomes Markdown or HTML.

Texts may hold two marks: ``**bold**`` and backquotes around code.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Tone = Literal["plain", "good", "bad", "warn", "quiet"]


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the report's own."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """Short texts of equal rank."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Notice:
    """A text that must not be overlooked."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Cell:
    """A cell of a table with a tone, shown as a label."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Table:
    """Rows under a head; columns but the first are aligned to the right unless they are words.

    Attributes:
        head: Titles of the columns.
        rows: One text or cell per column.
        words: Titles of the columns that hold words and not numbers.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    words: tuple[str, ...] = ()

    def holds_words(self, column: int) -> bool:
        """Tell whether a column is aligned to the left."""
        return column == 0 or self.head[column] in self.words


@dataclass(frozen=True)
class Picture:
    """A PNG beside the report.

    Attributes:
        file: Name of the file.
        png: Its content.
        says: What it shows, for those who do not see it, and as its caption.
    """

    file: str
    png: bytes
    says: str


@dataclass(frozen=True)
class Code:
    """Text in a monospaced font, as it is; folded under its title."""

    title: str
    text: str


Block: TypeAlias = Heading | Paragraph | Bullets | Notice | Table | Picture | Code
