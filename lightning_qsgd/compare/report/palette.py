"""Colours that stay apart for colour-blind eyes, after Okabe and Ito."""

from lightning_qsgd.compare.report.document import Tone
from lightning_qsgd.compare.verdict import Outcome

BASELINE = "#6b7280"
ARM = "#0072b2"
CONTROLS = ("#d55e00", "#009e73", "#cc79a7")
QUIET = "#68717b"

TONES: dict[Outcome, Tone] = {
    Outcome.BETTER: "good",
    Outcome.WORSE: "bad",
    Outcome.MATCHED: "warn",
    Outcome.BEATEN: "warn",
    Outcome.NO_CLAIM: "warn",
    Outcome.UNDETECTED: "quiet",
    Outcome.IDENTICAL: "quiet",
}
"""Tone of a verdict in tables; pictures take the colours below. Words always say the same."""

INK: dict[Tone, str] = {
    "good": ARM,
    "bad": "#d55e00",
    "warn": "#b58900",
    "quiet": QUIET,
    "plain": "#1b1f24",
}
