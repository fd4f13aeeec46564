"""Configurations as plain values: numbers, words, lists and mappings."""

from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace, set_dumper
from lightning.pytorch.cli import LightningArgumentParser

FORMAT = "plain_values"
UNWRITABLE = "Unable to serialize instance "
"""How jsonargparse marks a default that is an object, such as a function or a device."""


def plain_config(parser: LightningArgumentParser, config: Namespace) -> dict[str, Any]:
    """Return a configuration as plain values, every default included that can be written.

    A default that is an object, such as `device` of StochasticWeightAveraging, has no plain form:
    it is left out, and whoever reads the values takes the same default.

    Args:
        parser: Parser of the subcommand.
        config: What it has parsed.
    """
    dumped = parser.dump(config, skip_none=False, skip_check=True, format=FORMAT)
    plain: dict[str, Any] = _without_unwritable(yaml.safe_load(dumped))
    return plain


class _Writer(yaml.SafeDumper):
    """Writes what YAML has no form for as the words that the parser would read, or marks it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_undefined(self, data: Any) -> yaml.Node:  # type: ignore[override]
        if isinstance(data, Enum):
            return self.represent_data(data.value if isinstance(data, str) else data.name)
        if isinstance(data, Path):
            return self.represent_data(str(data))
        for kind in (str, bool, int, float):
            if isinstance(data, kind):  # a subclass, such as a restricted number
                return self.represent_data(kind(data))
        if isinstance(data, dict | list | tuple | set | frozenset):
            plain = dict(data) if isinstance(data, dict) else list(data)
            return self.represent_data(plain)
        return self.represent_data(f"{UNWRITABLE}{type(data).__name__}")


_Writer.add_representer(None, _Writer.represent_undefined)  # type: ignore[arg-type]
_Writer.add_representer(tuple, lambda writer, data: writer.represent_data(list(data)))
set_dumper(FORMAT, lambda data: yaml.dump(data, Dumper=_Writer, sort_keys=False))


def _without_unwritable(node: Any) -> Any:
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if not _is_unwritable(value)}
        return {key: _without_unwritable(value) for key, value in kept.items()}
    if isinstance(node, list):
        return [_without_unwritable(item) for item in node]
    return node


def _is_unwritable(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(UNWRITABLE)
