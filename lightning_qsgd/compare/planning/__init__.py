"""What is compared: arms, seeds, budget, goal and tuning, as a config says it."""

from lightning_qsgd.compare.planning.plan import ArmPlan, GoalPlan, Plan
from lightning_qsgd.compare.planning.search import Budget, Range, Search

__all__ = ["ArmPlan", "Budget", "GoalPlan", "Plan", "Range", "Search"]
