"""What is compared: arms, seeds, budget, goal and tuning, and the jobs that follow from it."""

from lightning_qsgd.compare.planning.plan import ArmPlan, GoalPlan, Lines, Plan, Task
from lightning_qsgd.compare.planning.search import Budget, Range, Search

__all__ = ["ArmPlan", "Budget", "GoalPlan", "Lines", "Plan", "Range", "Search", "Task"]
