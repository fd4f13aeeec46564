"""The plan of a comparison on a terminal."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from lightning_qsgd.compare.run_comparison import Question


def plan_table(question: Question) -> RenderableType:
    """Lay out arms, seeds, budget, goal and tuning.

    Args:
        question: What is asked.
    """
    plan, goal = question.plan, question.goal
    table = Table(title=f"Comparison on {escape(question.name)}")
    for column in ("arm", "kind", "hyperparameters", "changes"):
        table.add_column(column)
    for name, arm in plan.arms.items():
        kind = f"{arm.kind} of {', '.join(arm.control_of)}" if arm.control_of else arm.kind
        overlay = escape(_lines(question.overlays[name])) or "nothing"
        table.add_row(escape(name), kind, arm.hyperparameters, overlay)
    direction = "higher" if goal.higher_is_better else "lower"
    target = f"{goal.target}" if goal.target is not None else "none"
    if plan.goal.seeds:
        target = f"from the baseline, on seeds {_span(plan.goal.seeds)}"
    facts = {
        "seeds": _span(plan.seed_block),
        "budget of a run": str(plan.budget),
        "primary metric": f"{goal.metric}, {direction} is better",
        "target": target,
        "tuning": _tuning(question),
    }
    return Group(table, *(f"{name}: {escape(value)}" for name, value in facts.items()))


def _lines(overlay: str) -> str:
    kept = [line for line in overlay.splitlines() if not line.startswith(("#", "run:"))]
    return "\n".join(kept)


def _tuning(question: Question) -> str:
    search = question.plan.tuning
    if search is None or not question.plan.tuned:
        return "none"
    space = ", ".join(
        f"{name} in [{span.low:g}, {span.high:g}] ({span.scale})"
        for name, span in search.space.items()
    )
    return (
        f"{search.trials} trials on seeds {_span(search.seed_block)} for each of "
        f"{', '.join(question.plan.tuned)}: {space}"
    )


def _span(seeds: tuple[int, ...]) -> str:
    consecutive = seeds == tuple(range(seeds[0], seeds[0] + len(seeds)))
    if consecutive and len(seeds) > 2:
        return f"{seeds[0]} to {seeds[-1]} ({len(seeds)})"
    return ", ".join(map(str, seeds))
