"""What a model started from, tensor by tensor, and whether two models started alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FirstWeights:
    """The weights of a run before its first step.

    Attributes:
        hashes: Hash of shape, precision and values by name, of every parameter and stored buffer.
        parameters: Number of trainable numbers.
    """

    hashes: Mapping[str, str] = field(default_factory=dict)
    parameters: int = 0


def start_alike(one: FirstWeights, other: FirstWeights) -> bool | None:
    """Tell whether one of two models has all tensors of the other, with the same first values.

    A model may add parameters to another, e.g. the circuit's weights in quantum attention: the two
    are a pair in all that the smaller one has. Where each has a tensor that the other lacks, as
    after a renaming, nothing says that they are the same network but for an addition: no pair.

    Returns:
        The answer; None if either was not recorded.

    Example:
        >>> plain = FirstWeights({"head": "a1"}, 4)
        >>> start_alike(plain, FirstWeights({"head": "a1", "circuit": "b2"}, 20))
        True
        >>> start_alike(plain, FirstWeights({"tail": "a1", "circuit": "b2"}, 20))
        False
    """
    if not (one.hashes and other.hashes):
        return None
    fewer, more = sorted((one.hashes, other.hashes), key=len)
    return all(more.get(name) == value for name, value in fewer.items())


def unlike(one: FirstWeights, other: FirstWeights) -> list[str]:
    """Name the tensors that stand against a pair: those of other values, else those not in both.

    Returns:
        Names in alphabetical order; none if the models start alike.

    Example:
        >>> unlike(FirstWeights({"head": "a1"}), FirstWeights({"tail": "a1"}))
        ['head', 'tail']
    """
    if start_alike(one, other):
        return []
    common = one.hashes.keys() & other.hashes.keys()
    changed = [name for name in common if one.hashes[name] != other.hashes[name]]
    return sorted(changed or one.hashes.keys() ^ other.hashes.keys())
