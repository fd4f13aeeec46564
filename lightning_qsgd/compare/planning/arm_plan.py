"""One arm as a config describes it."""

from dataclasses import dataclass, field
from typing import Literal

from lightning_qsgd.compare.arm import Kind

Hyperparameters = Literal["given", "tuned", "of_baseline"]
"""Where learning rate, weight decay and what else is tuned come from: the config as it is, a search
of the arm's own, or what the search found for the baseline."""


@dataclass(frozen=True)
class ArmPlan:
    """Says what an arm changes in the experiment, and what part it plays.

    Args:
        overlay: What the arm changes: a config file or several, relative to the comparison's
            config, or the lines themselves; None changes nothing.
        kind: "baseline" for exactly one arm, "control" for what an arm's gain should not be due
            to, "arm" for all others.
        control_of: Names of the arms that this control is matched to.
        hyperparameters: "given", "tuned" (searched, as for the baseline), or "of_baseline" (what
            the search found for the baseline: the arm then differs by its overlay alone).
        must_equal_baseline: Whether every run must equal the baseline's to the last bit, as at
            strength 0; a difference is then an error.
        description: What the arm does, in a few words for the report.

    Raises:
        ValueError: If anything but a control has `control_of`, or the baseline is to copy itself.

    Example:
        >>> ArmPlan(overlay={"perturbation": {"strength": 0.5}}).kind
        'arm'
    """

    # A plain dict: in a `dict[str, Any]` the parser would build the classes that an overlay names.
    overlay: str | list[str] | dict | None = None  # type: ignore[type-arg]
    kind: Kind = "arm"
    control_of: list[str] = field(default_factory=list)
    hyperparameters: Hyperparameters = "given"
    must_equal_baseline: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        if self.control_of and self.kind != "control":
            raise ValueError(
                f"Expected only controls to have `control_of`, got it in a {self.kind}: it names "
                "the arms that a control is matched to. Add `kind: control`."
            )
        if self.kind == "baseline" and self.hyperparameters == "of_baseline":
            raise ValueError(
                "Expected the baseline to have hyperparameters of its own, got 'of_baseline': it "
                "cannot copy itself. Write 'given' or 'tuned'."
            )
