"""A report as a list of blocks, and how they become Markdown, or one HTML file without others.

Texts may hold two marks: ``**bold**`` and backquotes around code.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
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
        folded: Title under which a page folds it away; empty shows it.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    words: tuple[str, ...] = ()
    folded: str = ""

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
        wide: The same as WebP or PNG, for the page.
        narrow: The same laid out for a narrow screen, for the page; empty if there is none.
    """

    file: str
    png: bytes
    says: str
    wide: bytes
    narrow: bytes = b""


@dataclass(frozen=True)
class Code:
    """Text in a monospaced font, as it is; folded under its title."""

    title: str
    text: str


Block: TypeAlias = Heading | Paragraph | Bullets | Notice | Table | Picture | Code


def to_markdown(blocks: Sequence[Block]) -> str:
    r"""Write blocks as Markdown; pictures are linked as files beside it.

    Example:
        >>> to_markdown([Heading("Runs"), Paragraph("a < b")])
        '## Runs\n\na &lt; b\n'
    """
    return "\n\n".join(map(_markdown_block, blocks)) + "\n"


def _markdown_block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_markdown_text(text)}"
        case Paragraph(text):
            return _markdown_text(text)
        case Bullets(items):
            return "\n".join(f"- {_markdown_text(item)}" for item in items)
        case Notice(text):
            return f"> {_markdown_text(text)}"
        case Table():
            return _markdown_table(block)
        case Picture(file, _, says):
            return f"![{_markdown_text(says)}]({file})\n\n*{_markdown_text(says)}*"
        case Code(title, text):
            fence = "`" * max(3, _longest_run_of_backquotes(text) + 1)
            return f"**{_markdown_text(title)}**\n\n{fence}\n{text}\n{fence}"


def _markdown_text(text: str) -> str:
    # Markdown takes tags for HTML: names and messages of others must not become some.
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")


def _markdown_table(table: Table) -> str:
    marks = ["---" if table.holds_words(i) else "---:" for i in range(len(table.head))]
    rows = [list(table.head), marks]
    rows += [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in table.rows]
    return "\n".join(
        f"| {' | '.join(_markdown_text(text).replace('|', chr(92) + '|') for text in row)} |"
        for row in rows
    )


def _longest_run_of_backquotes(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest


PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Write blocks as a page; pictures are part of it, and nothing is fetched from anywhere.

    Args:
        title: Title of the window.
        blocks: The content. All of it is escaped: names and messages cannot become tags.
    """
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    body = "\n".join(map(_html_block, blocks))
    return PAGE.substitute(title=escape(title), style=style, body=body)


def _html_block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_html_text(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_html_text(text)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{_html_text(item)}</li>' for item in items)}</ul>"
        case Notice(text, tone):
            return f'<p class="notice {tone}">{_html_text(text)}</p>'
        case Table():
            return _html_table(block)
        case Picture():
            return _picture(block)
        case Code(title, text):
            inner = f"<summary>{_html_text(title)}</summary><pre>{escape(text)}</pre>"
            return f"<details>{inner}</details>"


def _html_text(text: str) -> str:
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", marked)


def _picture(picture: Picture) -> str:
    says = _html_text(picture.says)
    image = f'<img src="{_address(picture.wide)}" alt="{escape(picture.says)}">'
    if picture.narrow:
        source = f'<source media="(max-width: {NARROW}px)" srcset="{_address(picture.narrow)}">'
        image = f"<picture>{source}{image}</picture>"
    return f"<figure>{image}<figcaption>{says}</figcaption></figure>"


PNG = b"\x89PNG"
"""How a PNG begins."""

NARROW = 700
"""Width of a window, in pixels, up to which pictures are shown in their narrow form."""


def _address(image: bytes) -> str:
    kind = "png" if image.startswith(PNG) else "webp"
    return f"data:image/{kind};base64,{b64encode(image).decode()}"


def _html_table(table: Table) -> str:
    kinds = ["words" if table.holds_words(i) else "number" for i in range(len(table.head))]
    head = "".join(
        f'<th class="{kind}" scope="col">{_html_text(text)}</th>'
        for kind, text in zip(kinds, table.head, strict=True)
    )
    rows = "\n".join(_row(row, kinds, table.head) for row in table.rows)
    # The frame scrolls sideways on a narrow screen, so that the page itself does not.
    inner = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    # Sentences in columns leave none of them room there: cells go below each other.
    stacked = ' class="stacked"' if set(table.words) == set(table.head) else ""
    shown = f'<div class="frame"><table{stacked}>{inner}</table></div>'
    summary = f"<summary>{_html_text(table.folded)}</summary>"
    return f"<details>{summary}{shown}</details>" if table.folded else shown


def _row(row: Sequence[str | Cell], kinds: Sequence[str], head: Sequence[str]) -> str:
    first, *others = (
        f'<span class="label {cell.tone}">{_html_text(cell.text)}</span>'
        if isinstance(cell, Cell)
        else _html_text(cell)
        for cell in row
    )
    cells = "".join(
        f'<td class="{kind}" data-head="{escape(title)}">{cell}</td>'
        for kind, cell, title in zip(kinds[1:], others, head[1:], strict=True)
    )
    return f'<tr><th class="words" scope="row">{first}</th>{cells}</tr>'
