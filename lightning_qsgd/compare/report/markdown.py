"""A report as Markdown, in the dialect of GitHub."""

from collections.abc import Sequence

from lightning_qsgd.compare.report.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Heading,
    Notice,
    Paragraph,
    Picture,
    Table,
)


def to_markdown(blocks: Sequence[Block]) -> str:
    r"""Write blocks as Markdown; pictures are linked as files beside it.

    Example:
        >>> to_markdown([Heading("Runs"), Paragraph("a < b")])
        '## Runs\n\na &lt; b\n'
    """
    return "\n\n".join(map(_block, blocks)) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_text(text)}"
        case Paragraph(text):
            return _text(text)
        case Bullets(items):
            return "\n".join(f"- {_text(item)}" for item in items)
        case Notice(text):
            return f"> {_text(text)}"
        case Table():
            return _table(block)
        case Picture(file, _, says):
            return f"![{_text(says)}]({file})\n\n*{_text(says)}*"
        case Code(title, text):
            fence = "`" * max(3, _longest_run_of_backquotes(text) + 1)
            return f"**{_text(title)}**\n\n{fence}\n{text}\n{fence}"


def _text(text: str) -> str:
    # Markdown takes tags for HTML: names and messages of others must not become some.
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")


def _table(table: Table) -> str:
    marks = ["---" if table.holds_words(i) else "---:" for i in range(len(table.head))]
    rows = [list(table.head), marks]
    rows += [[cell.text if isinstance(cell, Cell) else cell for cell in row] for row in table.rows]
    return "\n".join(
        f"| {' | '.join(_text(text).replace('|', chr(92) + '|') for text in row)} |" for row in rows
    )


def _longest_run_of_backquotes(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
