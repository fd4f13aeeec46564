"""`compare` for Python: the command's comparison, of a function that makes a model."""

import shlex
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from lightning.pytorch import LightningDataModule, LightningModule

from lightning_qsgd.cli.arm_configs import read_question
from lightning_qsgd.cli.commands import plain_console
from lightning_qsgd.cli.compare_command import ROOT, carry_out, workshop_in
from lightning_qsgd.cli.main import hush
from lightning_qsgd.cli.perturbation_cli import PerturbationCLI
from lightning_qsgd.cli.recipe import Recipe, refuse_while_imported
from lightning_qsgd.compare.executors.local import has_script
from lightning_qsgd.compare.planning import ArmPlan, Budget, GoalPlan, Plan, Search
from lightning_qsgd.compare.planning.job import as_yaml
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.running import Running
from lightning_qsgd.compare.running.folder_lock import locked
from lightning_qsgd.compare.verdicts import Verdict, analyse, verdicts


@dataclass(frozen=True)
class Experiment:
    """A model and its data, for `compare`.

    Args:
        model: Function that returns a LightningModule, or a class. Every run calls it in a process
            of its own, with the run's seed set.
        data: Function that returns a LightningDataModule, or a class; None if the model has its
            own loaders.
        name: What the experiment is called in the report and by the default folder.
        config: Further keys of a config of `lightning-qsgd fit`, such as `trainer` or `optimizer`.
            Arguments of the functions are under `init_args` of `model` and `data`.

    Raises:
        TypeError: If something is no function or class, or does not say what it returns.
        ValueError: If other processes could not import it.

    Example:
        >>> from lightning_qsgd.data import DigitsDataModule
        >>> from lightning_qsgd.training import Classifier
        >>> Experiment(Classifier, DigitsDataModule, "digits").plain["model"]
        {'class_path': 'lightning_qsgd.training.classifier.Classifier'}
    """

    model: Callable[..., LightningModule]
    data: Callable[..., LightningDataModule] | None = None
    name: str = "experiment"
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _ = self.plain

    @property
    def plain(self) -> dict[str, Any]:
        """The config of `lightning-qsgd fit` that trains this."""
        plain = dict(self.config)
        made = {"model": (self.model, LightningModule), "data": (self.data, LightningDataModule)}
        for key, (function, kind) in made.items():
            if function is not None:
                path = import_path(function, key, kind)
                plain[key] = {**(plain.get(key) or {}), "class_path": path}
        plain["run"] = {**(plain.get("run") or {}), "experiment": self.name}
        return _plain("`config`", plain)


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes:
        results: Every run, also those that failed.
        verdicts: What may be claimed, by arm.
        folder: Where runs, results and report are.
    """

    results: Results
    verdicts: Mapping[str, Verdict]
    folder: Path

    def __repr__(self) -> str:
        lines = [f"Compared({self.results!r}", *map(str, self.verdicts.values())]
        return "\n  ".join([*lines, f"report: {self.report})"])

    @property
    def report(self) -> Path:
        """The page with everything."""
        return self.folder / "report.html"


def compare(
    experiment: Experiment,
    arms: Mapping[str, Mapping[str, Any] | ArmPlan],
    budget: Budget,
    seeds: int | list[int] = 16,
    goal: GoalPlan | None = None,
    tuning: Search | None = None,
    running: Running | None = None,
    horizons: list[float] | None = None,
) -> Compared:
    """Run a comparison, or continue it: what `lightning-qsgd compare` does, without a config.

    In a script, call it under ``if __name__ == "__main__":``, since every run imports the script.

    Args:
        experiment: What is trained.
        arms: What each arm changes in the config of the experiment, or all that a plan can say of
            it. The first arm is the baseline unless another is marked.
        budget: What each run may spend.
        seeds: Seeds of the reported runs: how many, or which.
        goal: What runs are judged by; None takes `val/accuracy`, or what `config` says.
        tuning: How arms with `hyperparameters="tuned"` are tuned.
        running: Where runs are stored and who makes them; the folder is `runs/compare/<name>`
            by default.
        horizons: Shares of the budget at which arms are run again, for the steps to the target.

    Returns:
        All runs and the verdicts. Runs that failed are in `results.all_failures`, arms that could
        not be tuned in `results.untuned`.

    Raises:
        ValueError: If something does not fit together, before anything runs.
        ModuleNotFoundError: If the extra for tuning or for the executor is not installed.
        RuntimeError: If an arm cannot be trained, the folder is in use, runs are no pairs, or the
            report could not be written.
    """
    refuse_while_imported()
    running, recipe = running or Running(), Recipe(PerturbationCLI)
    if running.executor != "local":
        _refuse_own_script(experiment)
    parts = (seeds, goal or GoalPlan(), tuning, horizons or [])
    plan = Plan(experiment.plain, _arm_plans(arms), budget, *parts)
    folder = Path(running.folder) if running.folder is not None else ROOT / experiment.name
    with warnings.catch_warnings():
        hush()
        question = read_question(plan, Path(), recipe=recipe)
        workshop = workshop_in(folder, running, recipe)
        with locked(folder):
            results = carry_out(question, workshop, _command(), plain_console(markup=True))
    return Compared(results, verdicts(analyse(results)), folder)


def import_path(function: Callable[..., Any], role: str, kind: type) -> str:
    """Return the path by which other processes import a function or class.

    Args:
        function: A function that returns an object of the kind, or a class of that kind.
        role: What it is for, for error messages.
        kind: What it must make.

    Raises:
        TypeError: If it is no function or class, or makes something else.
        ValueError: If other processes could not import it.

    Example:
        >>> from lightning_qsgd.training import Classifier
        >>> import_path(Classifier, "model", LightningModule)
        'lightning_qsgd.training.classifier.Classifier'
    """
    module, name = (getattr(function, key, None) for key in ("__module__", "__qualname__"))
    if not callable(function) or not module or not name or isinstance(function, kind):
        raise TypeError(
            f"Expected `{role}` to be a function that returns a {kind.__name__}, or a class, got "
            f"{function!r}: every run makes one of its own. Write a function that makes it."
        )
    path = f"{module}.{name}"
    obstacle = _obstacle(function, module, name)
    if obstacle:
        raise ValueError(
            f"Cannot hand `{role}`, {path}, to the processes of a comparison: {obstacle}. Write it "
            "as `def` or `class` at the top level of a file, and import it from there."
        )
    _require_kind(function, role, kind, path)
    return path


def _obstacle(function: Any, module: str, name: str) -> str:
    """Say why another process could not import a function; empty if it can."""
    if "<lambda>" in name:
        return "a lambda has no name to import it by"
    if "<locals>" in name:
        return "it is defined inside a function"
    if module == "__main__" and not has_script():
        return (
            "it was typed into a notebook or a prompt, or is in no file: no process can import it"
        )
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        return f"it cannot be imported ({error})"
    return "" if found is function else "something else has that name"


def _require_kind(function: Callable[..., Any], role: str, kind: type, path: str) -> None:
    if isinstance(function, type):
        made: Any = function
    else:
        try:
            made = get_type_hints(function).get("return")
        except NameError:  # an annotation that only a type checker can read
            made = signature(function).return_annotation
    if isinstance(made, type) and issubclass(made, kind):
        return
    written = "nothing" if made is None else getattr(made, "__qualname__", repr(made))
    raise TypeError(
        f"Expected `{role}` to say that it makes a {kind.__name__}, got {path} with {written}: "
        f"configs are checked by it. Write `def {function.__name__}(...) -> {kind.__name__}:`, "
        "with the class of `lightning.pytorch`."
    )


def _refuse_own_script(experiment: Experiment) -> None:
    for role, function in (("model", experiment.model), ("data", experiment.data)):
        if getattr(function, "__module__", "") == "__main__":
            raise ValueError(
                f"Cannot hand `{role}` to another machine: it is defined in the script that was "
                "started, which is not imported there. Move it to a module, and import it."
            )


def _arm_plans(arms: Mapping[str, Mapping[str, Any] | ArmPlan]) -> dict[str, ArmPlan]:
    plans = {
        name: arm if isinstance(arm, ArmPlan) else ArmPlan(_plain(f"the arm {name!r}", arm))
        for name, arm in arms.items()
    }
    first = next(iter(plans), None)
    if first is not None and not any(arm.kind == "baseline" for arm in plans.values()):
        plans[first] = replace(plans[first], kind="baseline")
    return plans


def _plain(what: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse values that no config could hold."""
    plain = dict(given)
    try:
        as_yaml(plain)
    except yaml.representer.RepresenterError as error:
        raise ValueError(
            f"Expected {what} to hold plain values, as a config does, got {error.args[-1]!r}: runs "
            "are stored and told apart by them. Write `{'class_path': ..., 'init_args': {...}}`."
        ) from error
    return plain


def _command() -> str:
    """What repeats the comparison, for the report."""
    started = bool(sys.argv) and Path(sys.argv[0]).is_file()
    return shlex.join(["python", *sys.argv]) if started else "lightning_qsgd.cli.compare(...)"
