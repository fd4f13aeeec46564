"""All pictures of a report: as PNG beside it, as WebP in its page."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lightning_qsgd.compare.report.curve_pictures import (
    draw_bands,
    draw_gap,
    draw_reached,
    draw_sizes,
)
from lightning_qsgd.compare.report.document import Picture
from lightning_qsgd.compare.report.panels import NARROW, OWN, WIDE, Page, draw_gains, draw_twins
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.verdicts.analysis import Analysis
from lightning_qsgd.compare.verdicts.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

Colours: TypeAlias = NDArray[np.int64]

LOOK = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "figure.facecolor": "white",
    "text.parse_math": False,
}
FREQUENT, COLOURS = 10, 16
TALL, FEWEST_DOTS = 8.0, 100
"""Inches from which a wide picture has so many dots per inch, as a page of 1080 pixels shows it:
many arms make tall pictures, and the report of 40 has to stay below 1 MB."""


def can_draw() -> bool:
    """Tell whether matplotlib is there."""
    return find_spec("matplotlib") is not None


def pictures(
    results: Results, analysis: Analysis, judged: dict[str, Verdict]
) -> dict[str, Picture]:
    """Draw everything that the runs recorded.

    Args:
        results: The runs.
        analysis: Their statistics.
        judged: Verdict by arm.

    Returns:
        Picture by name: "gains", "twins", "metric", "gap", "loss", "target" and "size"; those
        without data are left out.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if not can_draw():
        raise ModuleNotFoundError(
            "Cannot draw the pictures of the report: matplotlib is not installed. "
            "Run `pip install 'lightning-qsgd[plot]'`."
        )
    from matplotlib import rc_context

    goal, alpha = results.comparison.goal, analysis.method.alpha
    with rc_context(LOOK):
        wide, narrow = (
            {
                "gains": draw_gains(analysis, judged, goal.metric, page),
                "twins": draw_twins(analysis, goal.metric, page),
                "metric": draw_bands(results, goal.metric, alpha, page),
                "gap": draw_gap(results, alpha, page),
                "loss": draw_bands(results, goal.loss, alpha, page),
                "target": draw_reached(results, page),
                "size": draw_sizes(results, alpha, page),
            }
            for page in (WIDE, NARROW)
        )
        return {
            name: to_picture(f"{name}.png", figure, narrow[name], _caption(name, results, analysis))
            for name, figure in wide.items()
            if figure is not None
        }


def to_picture(file: str, wide: Figure, narrow: Figure | None, says: str) -> Picture:
    """Give a picture as it lies beside the report, and as it is in the page.

    The page holds WebP without loss, which takes 3/4 of the bytes of a PNG of the same dots, or
    PNG where Pillow was built without WebP.

    Args:
        file: Name of the PNG.
        wide: The picture.
        narrow: The same laid out for a narrow screen; None if there is none.
        says: What it shows.
    """
    from PIL import features

    kind: Literal["png", "webp"] = "webp" if features.check("webp") else "png"
    image = _drawn(wide, WIDE)
    small = b"" if narrow is None else _bytes_of(_drawn(narrow, NARROW), kind)
    return Picture(file, _bytes_of(image, "png"), says, _bytes_of(image, kind), small)


def to_png(figure: Figure, page: Page = WIDE) -> bytes:
    """Give a picture as the bytes of a PNG, the same for the same picture."""
    return _bytes_of(_drawn(figure, page), "png")


def _bytes_of(image: Image, kind: Literal["png", "webp"]) -> bytes:
    file = io.BytesIO()
    if kind == "png":
        image.save(file, format="png", optimize=True)
    else:
        image.convert("RGB").save(file, format="webp", lossless=True)
    return file.getvalue()


def _drawn(figure: Figure, page: Page) -> Image:
    from PIL import Image  # comes with matplotlib

    drawn = io.BytesIO()
    # Without the metadata the file would name the version of matplotlib and differ between two.
    is_tall = page is WIDE and figure.get_figheight() > TALL
    dots = FEWEST_DOTS if is_tall else page.dots
    figure.savefig(drawn, format="png", dpi=dots, metadata={"Software": None})
    return _in_few_colours(Image.open(drawn))


def _in_few_colours(drawing: Image) -> Image:
    """Give each pixel the nearest of a few colours, as a palette takes a third of the space.

    Pillow's own ways to find a palette change the colour of the paper. These are the colours that
    say something, then the most frequent ones, and then again and again the one that is farthest
    from all so far: that of a thin line.
    """
    from PIL import Image

    pixels = np.asarray(drawing.convert("RGB"), np.int32) @ np.array([1 << 16, 1 << 8, 1])
    packed, where, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    colours = packed[:, None] >> np.array([16, 8, 0]) & 255
    own = np.isin(packed, [int(colour.removeprefix("#"), 16) for colour in OWN])
    kept = colours[np.lexsort((-counts, ~own))[: max(FREQUENT, own.sum())]]
    while len(kept) < min(COLOURS, len(colours)):
        kept = np.vstack([kept, colours[_apart(colours, kept).min(axis=1).argmax()]])
    nearest = _apart(colours, kept).argmin(axis=1).astype(np.uint8)
    few = Image.fromarray(nearest[where].reshape(pixels.shape))
    few.putpalette(kept.astype(np.uint8).tobytes())
    return few


def _apart(colours: Colours, others: Colours) -> Colours:
    """Return the squared distances between colours of shape (n, 3) and (m, 3), shape (n, m)."""
    return np.asarray(((colours[:, None] - others) ** 2).sum(axis=-1))


def _caption(name: str, results: Results, analysis: Analysis) -> str:
    goal, baseline = results.comparison.goal, analysis.baseline.arm.name
    level = analysis.method.confidence
    lines = f"Dashed grey: {baseline}. Solid blue: the arm. Dotted: its own controls."
    target = "the target" if goal.target is None else f"{goal.metric} = {goal.target:g}"
    return {
        "gains": f"Gain of every arm over {baseline}; right of zero is better. Diamond: mean. "
        f"Line: where the true gain may lie ({level} interval, for all arms at once); one that "
        "holds zero is no evidence of an effect. Dots: one seed each. On grey: controls and "
        "references, which are not on trial.",
        "twins": f"Every arm beside its own controls: gain over {baseline} of each, with its "
        f"interval. At the right, how far the arm is ahead of the control, with the {level} "
        "interval; one that holds zero cannot tell the two apart.",
        "metric": f"{goal.metric} during training: mean over seeds with a {level} band for that "
        f"mean. {lines}",
        "gap": f"Gain in {goal.metric} over {baseline} during training, taken seed by seed: mean "
        f"with a {level} band for that mean. Above the grey line is better. {lines}",
        "loss": f"{goal.loss} during training: mean over seeds with a {level} band for that mean. "
        f"{lines} The first, highest values may lie outside the chart.",
        "target": f"Share of seeds that have reached {target} after so many "
        f"steps; higher and further left is better. {lines}",
        "size": "Size of what was added, relative to the base optimizer's step on the same "
        f"entries: mean over seeds with a {level} band. {lines}",
    }[name]
