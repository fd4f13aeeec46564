"""What may be said about the arms: statistics arm by arm, and the rule that judges them."""

from lightning_qsgd.compare.verdicts.analysis import Analysis, analyse
from lightning_qsgd.compare.verdicts.verdict import Outcome, Verdict, verdicts

__all__ = ["Analysis", "Outcome", "Verdict", "analyse", "verdicts"]
