"""What is compared: arms, seeds, budget, goal and tuning, as a config says it."""

from lightning_qsgd.compare.planning.arm_plan import ArmPlan
from lightning_qsgd.compare.planning.budget import Budget
from lightning_qsgd.compare.planning.goal_plan import GoalPlan
from lightning_qsgd.compare.planning.plan import Plan
from lightning_qsgd.compare.planning.search import Range, Search

__all__ = ["ArmPlan", "Budget", "GoalPlan", "Plan", "Range", "Search"]
