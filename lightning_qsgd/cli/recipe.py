"""How a command line was made, so that it can be made again: for a baseline, or in a job."""

import multiprocessing
import pickle
import pickletools
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from lightning_qsgd.compare.executors.local import has_script


def refuse_while_imported() -> None:
    """Refuse to start anything in a job that only imports the script.

    Raises:
        RuntimeError: If this process is a job that imports the script of its parent.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "The script runs its command line when it is imported, so that every run of a "
            "comparison would start a comparison. Put the call under "
            "`if __name__ == '__main__':`."
        )


@dataclass(frozen=True)
class Recipe:
    """The class of a command line and what its constructor was given.

    Attributes:
        kind: `PerturbationCLI` or a subclass of the user's.
        classes: Positional arguments, such as the classes of model and data.
        keywords: Keyword arguments, without those that differ from run to run.
        attributes: What a subclass had set before it called `PerturbationCLI.__init__`.
    """

    kind: type
    classes: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, cli: Any, classes: tuple[Any, ...], keywords: Mapping[str, Any]) -> "Recipe":
        """Write down how a command line is made, at the start of its constructor.

        Raises:
            RuntimeError: If a script runs its command line while a job imports it.
        """
        refuse_while_imported()
        own = {key: value for key, value in vars(cli).items() if key != "recipe"}
        return cls(getattr(cli, "made_from", type(cli)), classes, dict(keywords), own)

    def make(
        self,
        behaviour: type | None = None,
        attributes: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> Any:
        """Make the command line again, from fresh copies of callbacks and other defaults.

        A subclass's own `__init__` is not called, since its arguments are unknown: `start` of
        `PerturbationCLI` takes what that one had passed on.

        Args:
            behaviour: A class that overrides what `kind` does.
            attributes: What that class needs before the command line starts.
            keywords: Further keyword arguments; they win.
        """
        kind: Any = self.kind
        if behaviour is not None:
            kind = type(kind.__name__, (behaviour, kind), {"made_from": kind})
        cli = kind.__new__(kind)
        vars(cli).update({**deepcopy(dict(self.attributes)), **(attributes or {})})
        own = {
            key: deepcopy(value) if key == "trainer_defaults" else value
            for key, value in self.keywords.items()
        }
        cli.start(*self.classes, **{**own, **keywords})
        return cli

    def require_picklable(self) -> None:
        """Refuse a command line that other processes could not make.

        Raises:
            ValueError: If something in it cannot be pickled, or is in no file.
        """
        try:
            packed = pickle.dumps(self)
            pickle.loads(packed)
        except Exception as error:  # whatever the parts raise
            raise ValueError(
                f"Cannot hand {self.kind.__name__} to the processes of a comparison: {error}. "
                "Define its classes, functions and callbacks at the top level of a file, not "
                "inside a function."
            ) from error
        named = {argument for _, argument, _ in pickletools.genops(packed)}
        if "__main__" in named and not has_script():
            raise ValueError(
                f"Cannot hand {self.kind.__name__} to the processes of a comparison: it, or what "
                "it was given, is in no file, as with `python -c` and `python -`. Write it into a "
                "file, and start that."
            )
