"""What the server that forks processes imports once, so that no run has to."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

PACKAGE = __name__.split(".")[0]


def modules_of(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the modules of this package that configurations name by `class_path`.

    Others are left to the runs: what a module of the user does on import, such as starting threads
    or opening a device, need not survive a fork.

    Args:
        configs: Configurations of runs, plain values.

    Example:
        >>> data = {"class_path": "lightning_qsgd.data.DigitsDataModule", "init_args": {}}
        >>> modules_of([{"data": data, "model": {"class_path": "mine.Model"}}])
        ['lightning_qsgd.data']
    """
    paths = {path for config in configs for path in _class_paths(config)}
    modules = {path.rpartition(".")[0] for path in paths}
    return sorted(name for name in modules if name.split(".")[0] == PACKAGE)


def _class_paths(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("class_path"), str):
            yield node["class_path"]
        node = list(node.values())
    if isinstance(node, list | tuple):
        for inner in node:
            yield from _class_paths(inner)
