"""What happens when a circuit cannot be evaluated."""

from lightning_qsgd.backends.failures.failure_policy import FailurePolicy
from lightning_qsgd.backends.failures.raise_on_failure import RaiseOnFailure
from lightning_qsgd.backends.failures.retry_on_failure import RetryOnFailure
from lightning_qsgd.backends.failures.skip_on_failure import SkipOnFailure
from lightning_qsgd.backends.failures.skipped_step import SkippedStep

__all__ = ["FailurePolicy", "RaiseOnFailure", "RetryOnFailure", "SkipOnFailure", "SkippedStep"]
