"""Says that a step is to be taken without its perturbation."""


class SkippedStep(RuntimeError):  # noqa: N818 - a request, like StopIteration
    """Raised by a backend whose circuits failed, for the optimizer to go on without them.

    Args:
        reason: What went wrong.
        limit: Number of skipped steps that the policy allows in all.
    """

    def __init__(self, reason: str, limit: int) -> None:
        super().__init__(reason, limit)
        self.reason = reason
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"The circuits failed ({self.reason}), and the step is to be taken without them: the "
            "policy is SkipOnFailure. PerturbedOptimizer does so; elsewhere, catch SkippedStep."
        )
