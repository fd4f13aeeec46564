"""A report as one HTML file that needs nothing besides itself."""

import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

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
    body = "\n".join(map(_block, blocks))
    return PAGE.substitute(title=escape(title), style=style, body=body)


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_text(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_text(text)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"
        case Notice(text, tone):
            return f'<p class="notice {tone}">{_text(text)}</p>'
        case Table():
            return _table(block)
        case Picture():
            return _picture(block)
        case Code(title, text):
            inner = f"<summary>{_text(title)}</summary><pre>{escape(text)}</pre>"
            return f"<details>{inner}</details>"


def _text(text: str) -> str:
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", marked)


def _picture(picture: Picture) -> str:
    source = f"data:image/png;base64,{b64encode(picture.png).decode()}"
    says = _text(picture.says)
    image = f'<img src="{source}" alt="{escape(picture.says)}">'
    return f"<figure>{image}<figcaption>{says}</figcaption></figure>"


def _table(table: Table) -> str:
    kinds = ["words" if table.holds_words(i) else "number" for i in range(len(table.head))]
    head = "".join(
        f'<th class="{kind}" scope="col">{_text(text)}</th>'
        for kind, text in zip(kinds, table.head, strict=True)
    )
    rows = "\n".join(_row(row, kinds) for row in table.rows)
    # The frame scrolls sideways on a narrow screen, so that the page itself does not.
    inner = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    return f'<div class="frame"><table>{inner}</table></div>'


def _row(row: Sequence[str | Cell], kinds: Sequence[str]) -> str:
    first, *others = (
        f'<span class="label {cell.tone}">{_text(cell.text)}</span>'
        if isinstance(cell, Cell)
        else _text(cell)
        for cell in row
    )
    cells = "".join(
        f'<td class="{kind}">{cell}</td>' for kind, cell in zip(kinds[1:], others, strict=True)
    )
    return f'<tr><th class="words" scope="row">{first}</th>{cells}</tr>'
