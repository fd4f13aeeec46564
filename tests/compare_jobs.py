"""Jobs that take no time, for tests of whatever runs them."""

import os
import signal
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp

# So that the server that forks processes has the libraries, whichever test starts it.
import lightning_qsgd.cli.fit_job  # noqa: F401
from lightning_qsgd.compare.planning.job import Job
from lightning_qsgd.training.recorded_run import RecordedCurve, RecordedRun, Timing

METRIC = "val/accuracy"


def made_job(arm="adamw", seed=0, block="runs", **config):
    return Job(arm, seed, {"seed_everything": seed, **config}, block)


def quick_fit(job):
    """A run whose result is a function of its job, or whatever its `does` says."""
    does = job.config.get("does")
    if does == "raise":
        raise ArithmeticError(f"no luck with {job.seed}")
    if does == "exit":
        sys.exit(3)
    if does == "die":
        sys.stderr.write("last words\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if does in ("leave", "leave and die"):
        child = get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        Path(job.config["note"]).write_text(str(child.pid))
    if does in ("write", "write and die"):
        scratch = mkdtemp(dir=os.environ["LIGHTNING_QSGD_SCRATCH"])
        Path(scratch, "last.ckpt").write_text("weights")
        Path(job.config["note"]).write_text(scratch)
    if does == "write":
        time.sleep(60)
    if does in ("leave and die", "write and die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "wait":
        time.sleep(60)
    value = job.config.get("value", 0.5) + job.seed / 1024
    curve = RecordedCurve([1.0, 2.0], [0.5, 1.0], [0.1, 0.2], [0.1, value])
    checks = {"initial_weights": f"w{job.seed}", "data_order": "d", "random_state": "r"}
    checks["process"] = str(os.getpid())
    return RecordedRun(
        job.arm, job.seed, {METRIC: value}, {METRIC: curve}, checks, Timing(0.2, 0.1, 0.2)
    )
