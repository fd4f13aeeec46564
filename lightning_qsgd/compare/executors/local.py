"""Jobs in processes of this machine."""

import faulthandler
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context, spawn
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from typing_extensions import override

from lightning_qsgd.compare.executors.executor import (
    SCRATCH,
    Attempt,
    Executor,
    Fit,
    Running,
    attempt,
)
from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.compare.results.results import usable_cores
from lightning_qsgd.training.recorded_run import RecordedRun

PACKAGE = __name__.split(".")[0]


def modules_of(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the modules of this package that configurations name by `class_path`.

    Others are left to the runs: what a module of the user does on import, such as starting threads
    or opening a device, need not survive a fork, and what it draws has to have the run's seed.

    Args:
        configs: Configurations of runs, plain values.

    Example:
        >>> data = {"class_path": "lightning_qsgd.data.DigitsDataModule", "init_args": {}}
        >>> modules_of([{"data": data, "model": {"class_path": "mine.Model"}}])
        ['lightning_qsgd.data']
    """
    paths = {path for config in configs for path in _class_paths(config)}
    modules = {path.rpartition(".")[0] for path in paths}
    return sorted(filter(_is_ours, modules))


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def _class_paths(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("class_path"), str):
            yield node["class_path"]
        node = list(node.values())
    if isinstance(node, list | tuple):
        for inner in node:
            yield from _class_paths(inner)


def work(make: Fit, job: Job, parent: "Connection[Attempt, Any]", log: Path, scratch: Path) -> None:
    """Make one run and send what became of it.

    Args:
        make: Trains the run, after it has imported the user's modules.
        job: What to run.
        parent: Where the attempt is sent.
        log: File for everything that the run prints.
        scratch: Folder for what it writes; the parent removes it.
    """
    os.environ[SCRATCH] = str(scratch)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if hasattr(os, "setsid"):
        os.setsid()  # a group of its own, which ends with it: workers of loaders, and others
    # Else they would start as this process did: slowly, and only with what can be pickled.
    multiprocessing.set_start_method(None, force=True)
    threading.Thread(target=_die_with_parent, args=(scratch,), daemon=True).start()
    with log.open("w") as output:
        for stream in (1, 2):
            os.dup2(output.fileno(), stream)
        faulthandler.enable(output)
        parent.send(attempt(make, job))
        faulthandler.disable()
    parent.close()


def _import_and_fit(packed: bytes, script: dict[str, Any], job: Job) -> RecordedRun:
    """Import the script that was started, then what it hands over, and train.

    Modules may draw on import. So this comes after the seeding of `attempt`, and what they print
    or raise is the run's.
    """
    here: Any = multiprocessing.current_process()
    here._inheriting = True  # a script that starts a comparison on import is told so
    try:
        spawn.prepare(script)
        fit: Fit = pickle.loads(packed)
    finally:
        del here._inheriting
    return fit(job)


SCRIPT = ("init_main_from_name", "init_main_from_path")
"""What multiprocessing tells a process about the script of its parent."""


def has_script() -> bool:
    """Whether a process can import what was started here.

    What was typed into a prompt or a notebook, given to ``python -c``, or came in by standard
    input is in no file, though Python may call it `<stdin>`.
    """
    main = sys.modules["__main__"]
    is_module = getattr(main, "__spec__", None) is not None
    return is_module or Path(getattr(main, "__file__", None) or "").is_file()


def _script() -> dict[str, Any]:
    """Return what a process needs to import this one's script; nothing without one."""
    data = spawn.get_preparation_data("")
    return {name: data[name] for name in SCRIPT if name in data} if has_script() else {}


@contextmanager
def _without_script() -> Iterator[None]:
    """Let a process that is started inside import no script before it does anything else."""
    module: Any = spawn
    whole = module.get_preparation_data

    def rest(name: str) -> dict[str, Any]:
        return {key: value for key, value in whole(name).items() if key not in SCRIPT}

    module.get_preparation_data = rest
    try:
        yield
    finally:
        module.get_preparation_data = whole


def _die_with_parent(scratch: Path) -> None:
    """End with a parent that was killed: nobody would store the run, and the cores are needed."""
    owner = multiprocessing.parent_process()
    if owner is not None:
        owner.join()
        shutil.rmtree(scratch, ignore_errors=True)  # what the parent cannot do any more
        with suppress(OSError):
            scratch.parent.rmdir()  # the last one can
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _end(process: BaseProcess) -> None:
    """End what is left of a run: its process, if it is still there, and what that has started."""
    if process.pid is not None and hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Several runs share the cores already."""

HASH_SEED = "PYTHONHASHSEED"
"""Without it a set of texts has another order in every invocation: so would a vocabulary."""

SECONDS_TO_END = 5.0
"""How long a run whose result is there may take to end; what it has started may keep it."""

LAST_LINES = 30
"""How much of a dead process' output is kept."""

Working = dict[Any, tuple[BaseProcess, Job, Path]]

PREFIX = "lightning-qsgd-"
"""How the names of folders for what runs write begin, in the system's folder for such files."""


class LocalExecutor(Executor):
    """Gives every run a fresh process, which nothing that ran before can have changed.

    Where the system can fork safely, processes are forked from one server that has imported the
    libraries, and what the jobs name of this package, once and before any work; elsewhere each
    starts anew.

    Args:
        folder: Each run's output goes to `<folder>/<name of the job>.log`.
        processes: Runs at a time; None takes one per core that this process may use.
    """

    def __init__(self, folder: Path, processes: int | None = None) -> None:
        self.folder = folder
        self._processes = processes or usable_cores()

    @classmethod
    @override
    def of(cls, running: Running, logs: Path) -> "LocalExecutor":
        return cls(logs, running.processes)

    @property
    def at_a_time(self) -> int:
        """Number of processes."""
        return self._processes

    def run(
        self, fit: Fit, jobs: Sequence[Job], started: Callable[[Job], None]
    ) -> Generator[Attempt]:
        """Make runs; see `Executor.run`."""
        waiting, working = deque(jobs), Working()
        if sys.platform == "linux":
            named = [fit.__module__, *modules_of(job.config for job in jobs)]
            preload = [__name__, *filter(_is_ours, named)]
            get_context("forkserver").set_forkserver_preload(preload)
        # Owned here: a run that is killed, as all are after Ctrl-C, leaves its checkpoints behind.
        folder = TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        with folder as scratch, _environment_of_runs():
            make = partial(_import_and_fit, pickle.dumps(fit), _script())
            try:
                while waiting or working:
                    while waiting and len(working) < self._processes:
                        job = waiting.popleft()
                        working |= self._start(make, job, Path(scratch))
                        started(job)
                    # A process that died may have left others that hold its end of the pipe.
                    ends: dict[Any, Any] = {
                        process.sentinel: own for own, (process, *_) in working.items()
                    }
                    for connection in {ends.get(one, one) for one in wait([*working, *ends])}:
                        yield self._collect(connection, *working.pop(connection))
            finally:
                for process, *_ in working.values():
                    _end(process)

    def _start(self, make: Fit, job: Job, scratch: Path) -> Working:
        context: Any = get_context("forkserver" if sys.platform == "linux" else "spawn")
        ours, theirs = context.Pipe(duplex=False)
        log = self._log(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        # No daemon: those may have no processes of their own, such as the workers of a loader.
        own = Path(mkdtemp(dir=scratch))
        process = context.Process(target=work, args=(make, job, theirs, log, own))
        with _without_script():
            process.start()
        theirs.close()  # or the end of the process would not be seen
        return {ours: (process, job, own)}

    def _collect(self, connection: Any, process: BaseProcess, job: Job, scratch: Path) -> Attempt:
        try:
            return self._received(connection, process, job)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _received(self, connection: Any, process: BaseProcess, job: Job) -> Attempt:
        try:
            if not connection.poll():
                raise EOFError
            ended: Attempt = connection.recv()
        except (EOFError, OSError):
            process.join(SECONDS_TO_END)
            exitcode = process.exitcode
            _end(process)
            return Attempt(job, None, self._last_words(exitcode, job))
        finally:
            connection.close()
        process.join(SECONDS_TO_END)
        _end(process)
        ended = replace(ended, job=job)  # the child's copy may have been changed by what it ran
        if ended.run is not None:
            self._log(job).unlink(missing_ok=True)
        return ended

    def _log(self, job: Job) -> Path:
        return self.folder / f"{job.name}.log"

    def _last_words(self, exitcode: int | None, job: Job) -> str:
        log = self._log(job)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join([*lines[-LAST_LINES:], f"The process died: {_cause(exitcode)}."])


def _cause(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"it ended with status {exitcode} and gave no result"
    name = signal.Signals(-exitcode).name
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


@contextmanager
def _environment_of_runs() -> Iterator[None]:
    """Let processes that are started inside use one thread, and order sets as all others do."""
    names = (*ONE_THREAD, HASH_SEED)
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({**ONE_THREAD, HASH_SEED: before[HASH_SEED] or "0"})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
