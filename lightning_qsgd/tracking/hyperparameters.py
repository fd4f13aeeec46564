"""A nested config as TensorBoard's table of hyperparameters takes it."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Hyperparameter: TypeAlias = bool | int | float | str


def flatten_config(config: Mapping[str, Any]) -> dict[str, Hyperparameter]:
    """Turn a nested config into columns of the HParams table.

    Args:
        config: Nested mappings of anything. `bool`, `int`, `float` and `str` stay as they are,
            None becomes `"none"`, and everything else (lists, paths, empty mappings) its `str`.

    Returns:
        Values by the keys on the way to them, joined with "/".

    Raises:
        ValueError: If two values come to the same name, as in `{"a/b": 1, "a": {"b": 2}}`.

    Example:
        >>> flatten_config({"base": {"lr": 1e-3, "betas": [0.9, 0.999]}, "seed": None})
        {'base/lr': 0.001, 'base/betas': '[0.9, 0.999]', 'seed': 'none'}
    """
    flat: dict[str, Hyperparameter] = {}
    for name, value in _leaves(config):
        if name in flat:
            raise ValueError(
                f"Cannot flatten the config: two of its values are called {name!r}. "
                "Rename the key that contains a slash."
            )
        flat[name] = _legal(value)
    return flat


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}/")
        else:
            yield name, value


def _legal(value: Any) -> Hyperparameter:
    if value is None:
        return "none"
    return value if isinstance(value, bool | int | float | str) else str(value)
