"""Where parameters lie in memory, to tell whether views of them are still valid."""

from operator import is_

from torch import Tensor

from lightning_qsgd.optimizers.rows import ParamGroups, parameters_of


class Layout:
    """Remembers what must not change for kept views of parameters to stay valid.

    The check runs at every step, between a backward pass and the optimizer's step, when no code
    and no data of it are in the processor's caches: it is kept in few, short calls.

    Args:
        groups: Parameter groups as they are now.
    """

    def __init__(self, groups: ParamGroups) -> None:
        self._lengths = [len(group["params"]) for group in groups]
        self._parameters = parameters_of(groups)
        self._addresses = list(map(Tensor.data_ptr, self._parameters))
        self._numels = list(map(Tensor.numel, self._parameters))
        self._contiguous = list(map(Tensor.is_contiguous, self._parameters))
        self._with_gradient = [p for p in self._parameters if p.grad is not None]
        self._without_gradient = [p for p in self._parameters if p.grad is None]

    def is_unchanged(self, groups: ParamGroups) -> bool:
        """Whether parameters, their memory and their division into groups are the same.

        A gradient that is missing now and was there before counts as zero where it is read;
        only that all are missing must be seen here, for which one is looked at.
        """
        parameters = parameters_of(groups)
        return (
            [len(group["params"]) for group in groups] == self._lengths
            and all(map(is_, parameters, self._parameters))
            and list(map(Tensor.data_ptr, parameters)) == self._addresses
            and list(map(Tensor.numel, parameters)) == self._numels
            and list(map(Tensor.is_contiguous, parameters)) == self._contiguous
            and self._with_gradient[0].grad is not None
            and not any(parameter.grad is not None for parameter in self._without_gradient)
        )
