"""Runs are made once, kept whole, and told apart by their configuration."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lightning_qsgd.atomic_file import replacing, write_atomically
from lightning_qsgd.compare.executors import Attempt, LocalExecutor, attempt, choose_executor
from lightning_qsgd.compare.executors.executor import Executor
from lightning_qsgd.compare.planning.job import with_values
from lightning_qsgd.compare.results.results import FailedRun
from lightning_qsgd.compare.running import Job, Running
from lightning_qsgd.compare.running.board import DONE, FAILED, Board, duration
from lightning_qsgd.compare.running.folder_lock import LOCK, locked
from lightning_qsgd.compare.running.pairing_guard import PairingGuard, refuse_unpaired
from lightning_qsgd.compare.running.run_jobs import Workshop
from lightning_qsgd.compare.running.stored_run import RunStore, StoredRun, differences
from lightning_qsgd.training.recorded_run import FirstWeights
from tests.compare_jobs import made_job, quick_fit


class InOrder(Executor):
    """Makes runs here, one after the other, and counts them."""

    def __init__(self):
        self.made = []

    @property
    def at_a_time(self):
        return 1

    def run(self, fit, jobs, started):
        for job in jobs:
            started(job)
            self.made.append(job.name)
            yield attempt(fit, job)


def made_board(jobs, **fields):
    return Board(Console(file=StringIO(), width=200, **fields), "Runs", jobs)


def made_workshop(folder, **running):
    return Workshop(quick_fit, InOrder(), RunStore(folder), Running(**running))


JOBS = [made_job(arm, seed) for seed in range(2) for arm in ("adamw", "sine")]


def test_fingerprint_changes_with_the_configuration_only():
    assert made_job(lr=0.1).fingerprint == made_job(lr=0.1).fingerprint
    assert made_job(lr=0.1).fingerprint != made_job(lr=0.2).fingerprint
    assert made_job(seed=1).fingerprint != made_job(seed=2).fingerprint


def test_values_are_set_without_touching_the_original():
    config = {"optimizer": {"init_args": {"lr": 1.0, "eps": 2.0}}}
    changed = with_values(config, {"optimizer.init_args.lr": 3.0}, "adamw")
    assert changed == {"optimizer": {"init_args": {"lr": 3.0, "eps": 2.0}}}
    assert config["optimizer"]["init_args"]["lr"] == 1.0


@pytest.mark.parametrize("config", [{}, {"optimizer": None}, {"optimizer": {"init_args": {}}}])
def test_a_value_without_a_place_is_refused(config):
    with pytest.raises(ValueError, match=r"Cannot set `optimizer\.init_args\.lr` of the arm"):
        with_values(config, {"optimizer.init_args.lr": 3.0}, "sine")


def test_a_run_survives_storing_bit_for_bit(tmp_path):
    job, store = made_job(value=float("nan")), RunStore(tmp_path)
    stored = StoredRun.of(attempt(quick_fit, job))
    store.save(stored, job)
    assert repr(store.load(job.name)) == repr(stored)
    failed = StoredRun.of(attempt(quick_fit, made_job(does="raise")))
    store.save(failed, job)
    assert store.load(job.name) == failed
    assert [file.name for file in tmp_path.rglob("*.tmp")] == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text", "format"])
def test_a_damaged_run_counts_as_not_there(damage, tmp_path):
    job, store = made_job(value=0.25), RunStore(tmp_path)
    store.save(StoredRun.of(attempt(quick_fit, job)), job)
    file = store.path(job.name)
    text = file.read_text()
    damaged = {
        "flip": text.replace("0.25", "0.35"),
        "cut": text[: len(text) // 2],
        "empty": "",
        "text": "hello",
        "format": text.replace('"format": 1', '"format": 0'),
    }
    assert damaged[damage] != text
    file.write_text(damaged[damage])
    assert store.load(job.name) is None


def test_runs_are_made_once(tmp_path):
    workshop = made_workshop(tmp_path)
    first = workshop.run(JOBS[:2], made_board(JOBS))
    second = workshop.run(JOBS, made_board(JOBS))
    assert workshop.executor.made == [job.name for job in JOBS]
    assert list(second) == JOBS
    assert all(second[job] == first[job] for job in JOBS[:2])


def test_runs_that_failed_are_tried_again(tmp_path):
    jobs = [made_job("bad", 0, does="raise"), made_job("adamw", 0)]
    workshop = made_workshop(tmp_path)
    for _ in range(2):
        ended = workshop.run(jobs, made_board(jobs))
    assert workshop.executor.made == ["runs/bad/seed0", "runs/adamw/seed0", "runs/bad/seed0"]
    assert isinstance(ended[jobs[0]].run, FailedRun)
    assert "ArithmeticError: no luck with 0" in ended[jobs[0]].run.traceback


def test_what_was_run_is_kept_when_a_watcher_stops_the_rest(tmp_path):
    def watch(job, stored):
        if job == JOBS[1]:
            raise RuntimeError("stop")

    workshop = made_workshop(tmp_path)
    with pytest.raises(RuntimeError, match="stop"):
        workshop.run(JOBS, made_board(JOBS), watch)
    assert [workshop.store.load(job.name) is not None for job in JOBS] == [True, True, False, False]


def test_another_configuration_is_refused_and_named(tmp_path):
    workshop = made_workshop(tmp_path)
    workshop.run([made_job(lr=0.1)], made_board([]))
    with pytest.raises(ValueError, match=r"runs/adamw/seed0 with lr: 0\.1, now 0\.2.*--changed"):
        workshop.run([made_job(lr=0.2)], made_board([]))
    again = made_workshop(tmp_path, changed="rerun")
    again.run([made_job(lr=0.2)], made_board([]))
    assert again.executor.made == ["runs/adamw/seed0"]


def test_differences_are_found_deep_inside():
    old, new = {"a": {"b": [1]}, "c": 1}, {"a": {"b": [2]}, "d": 1}
    expected = ["a.b: [1], now [2]", "c: 1, now None", "d: None, now 1"]
    assert list(differences(old, new)) == expected


def test_a_folder_is_held_once(tmp_path):
    with locked(tmp_path):
        message = rf"in use by another comparison \(process {os.getpid()}\)"
        with pytest.raises(RuntimeError, match=message), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("below", ["", "out"])
def test_a_folder_that_cannot_be_is_refused(below, tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / below
    with pytest.raises(ValueError, match=r"Cannot store a comparison in .*Choose a `--folder`"):
        locked(folder).__enter__()


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "taken", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_lock_left_behind_stands_in_nobodys_way(tmp_path):
    (tmp_path / LOCK).write_text("4194304")
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())


def stored_with(arm, seed, **checks):
    run = quick_fit(made_job(arm, seed))
    return StoredRun("", {}, type(run)(arm, seed, run.final, {}, {**run.checks, **checks}))


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("initial_weights", "initial weights"),
        ("data_order", "first batches"),
        ("random_state", "random generators at the start"),
        ("validation_batches", "number of validation batches"),
        ("validation_data", "validation batches"),
    ],
)
def test_a_run_that_is_no_pair_is_found(check, words):
    guard = PairingGuard("adamw")
    known = dict.fromkeys(("validation_batches", "validation_data"), "known")
    assert guard.look(made_job("adamw", 0), stored_with("adamw", 0, **known)) == []
    assert guard.look(made_job("adamw", 1), stored_with("adamw", 1, **known)) == []
    assert guard.look(made_job("sine", 1), stored_with("sine", 1)) == []
    (found,) = guard.look(made_job("sine", 0), stored_with("sine", 0, **{check: "other"}))
    assert found == f"Seed 0: sine and adamw differ in the {words}{found.split(words)[1]}"
    assert guard.violations == [found]
    with pytest.raises(RuntimeError, match=r"Seed 0: sine and adamw.*--unpaired allow"):
        refuse_unpaired(found)


def test_a_failed_run_is_no_violation():
    failed = StoredRun.of(attempt(quick_fit, made_job(does="raise")))
    assert PairingGuard("adamw").look(made_job(), failed) == []


def test_runs_are_compared_with_the_baseline_alone_whenever_it_ends():
    guard = PairingGuard("adamw")
    runs = {arm: stored_with(arm, 0, initial_weights=arm) for arm in ("circuit", "control")}
    for arm, stored in runs.items():
        assert guard.look(made_job(arm, 0), stored) == []  # no baseline yet
    found = guard.look(made_job("adamw", 0), stored_with("adamw", 0, initial_weights="circuit"))
    assert found == ["Seed 0: control and adamw differ in the initial weights."]


def with_weights(arm, parameters, **hashes):
    run = replace(stored_with(arm, 0).finished, first_weights=FirstWeights(hashes, parameters))
    checks = {**run.checks, "initial_weights": f"whole model of {arm}"}
    return StoredRun("", {}, replace(run, checks=checks))


@pytest.mark.parametrize(
    ("hashes", "named"),
    [
        ({"head": "a", "body": "b", "circuit": "c"}, None),
        ({"head": "a"}, None),
        ({"head": "a", "body": "x", "circuit": "c"}, "body"),
        ({"head": "a", "renamed": "b"}, "body, renamed"),
        ({"other": "a", "network": "b"}, "body, head, network, ..."),
    ],
)
def test_extra_parameters_are_no_violation_and_other_networks_are_one(hashes, named):
    guard = PairingGuard("adamw")
    guard.look(made_job("adamw", 0), with_weights("adamw", 2, head="a", body="b"))
    found = guard.look(made_job("arm", 0), with_weights("arm", 3, **hashes))
    words = f"Seed 0: arm and adamw differ in the initial weights ({named})."
    assert found == ([words] if named else [])


def test_a_run_stored_before_first_weights_were_recorded_is_read(tmp_path):
    store, job = RunStore(tmp_path), made_job("adamw", 0)
    store.save(with_weights("adamw", 2, head="a"), job)
    assert store.load(job.name).finished.first_weights == FirstWeights({"head": "a"}, 2)
    body = json.loads(store.path(job.name).read_text().split("\n")[1])
    del body["run"]["first_weights"]
    text = json.dumps(body)
    head = {"format": 1, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    store.path(job.name).write_text(f"{json.dumps(head)}\n{text}\n")
    assert store.load(job.name).finished.first_weights == FirstWeights()


def test_board_counts_and_forecasts():
    board = made_board(JOBS)
    with board:
        assert board.seconds_left is None
        board.started(JOBS[0])
        board.ended(JOBS[0], StoredRun("", {}, quick_fit(JOBS[0]), wall=2.0))
        failed = FailedRun("sine", 0, "Traceback\nValueError: bad")
        board.ended(JOBS[1], StoredRun("", {}, failed, wall=4.0))
        assert board.counts == (1, 1, 4)
        assert board.seconds_left == 3.0 * 2
        said = board.console.file.getvalue()
    assert "runs/sine/seed0 FAILED: ValueError: bad (4.0 s); 2/4, 1 failed" in said
    assert "about 6 s left" in said


def test_board_is_a_table_on_a_terminal():
    board = made_board(JOBS, force_terminal=True)
    with board:
        board.ended(JOBS[0], StoredRun("", {}, quick_fit(JOBS[0]), wall=2.0))
    said = board.console.file.getvalue()
    assert "adamw" in said
    assert "1/2" in said
    assert DONE != FAILED


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min")]
)
def test_durations_are_written_for_people(seconds, words):
    assert duration(seconds) == words


def test_local_processes_fail_alone(tmp_path):
    does = {0: None, 1: "raise", 2: "exit", 3: "die", 4: None}
    jobs = [made_job("a", seed, does=what) for seed, what in does.items()]
    started = []
    executor = LocalExecutor(tmp_path, processes=2)
    ended = {a.job.seed: a for a in executor.run(quick_fit, jobs, started.append)}
    assert started == jobs
    assert ended.keys() == does.keys()
    assert ended[0].run.final == quick_fit(jobs[0]).final
    assert ended[4].run is not None
    assert "ArithmeticError: no luck with 1" in ended[1].traceback
    assert "SystemExit: 3" in ended[2].traceback
    assert ended[3].traceback == (
        "last words\nThe process died: killed by SIGKILL, as the system does when memory runs out."
    )
    processes = {ended[seed].run.checks["process"] for seed in (0, 4)}
    assert len(processes | {str(os.getpid())}) == 3


def test_closing_ends_what_still_runs(tmp_path):
    jobs = [made_job("a", 0), made_job("a", 1, does="wait")]
    executor = LocalExecutor(tmp_path, processes=2)
    attempts = executor.run(quick_fit, jobs, lambda job: None)
    first = next(attempts)
    attempts.close()  # would take a minute if it waited
    assert isinstance(first, Attempt)


def test_executor_is_the_one_that_was_asked_for(tmp_path):
    executor = choose_executor(Running(processes=3), tmp_path)
    assert isinstance(executor, LocalExecutor)
    assert executor.at_a_time == 3


@pytest.mark.parametrize("name", ["rai", "nowhere.Executor", "json.JSONDecoder"])
def test_what_is_no_executor_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"local, ray or the class path.*got '{name}'"):
        choose_executor(Running(executor=name), tmp_path)


def test_ray_says_which_extra_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match="extra `ray`"):
        choose_executor(Running(executor="ray"), tmp_path)


def test_a_job_is_one_line_of_json_away_from_its_fingerprint():
    job = Job("a", 1, json.loads(json.dumps({"x": [1, None]})))
    assert job.name == "runs/a/seed1"
    assert job.key == ("runs", "a", 1)


@pytest.mark.skipif(sys.platform == "win32", reason="has no process groups")
@pytest.mark.parametrize(("does", "ends"), [("leave", True), ("leave and die", False)])
def test_what_a_run_has_started_ends_with_it_and_holds_nothing_up(does, ends, tmp_path):
    note = tmp_path / "pid"
    executor = LocalExecutor(tmp_path / "logs", processes=1)
    job = made_job(does=does, note=str(note))

    (ended,) = executor.run(quick_fit, [job], lambda _: None)

    assert (ended.run is not None) is ends
    left, tries = Path(f"/proc/{note.read_text()}/stat"), 100
    while left.exists() and left.read_text().split()[2] != "Z" and tries:
        time.sleep(0.1)  # the system takes a moment to end it
        tries -= 1
    assert tries


class Broken(InOrder):
    """Breaks the contract of executors in one way."""

    def __init__(self, spoil):
        super().__init__()
        self.spoil = spoil

    def run(self, fit, jobs, started):
        yield from self.spoil([attempt(fit, job) for job in jobs])


def exchanged(attempts):
    runs = [each.run for each in reversed(attempts)]
    return [replace(each, run=run) for each, run in zip(attempts, runs, strict=True)]


def renamed(attempts):
    return [replace(each, job=replace(each.job, arm="other")) for each in attempts]


BREACHES = {
    "drops": (lambda attempts: attempts[:-1], RuntimeError, "no attempt at runs/sine/seed1"),
    "keeps all": (lambda attempts: [], RuntimeError, "no attempt at runs/adamw/seed0 and 3 others"),
    "twice": (lambda attempts: attempts * 2, RuntimeError, ".* or has yielded before"),
    "foreign": (renamed, RuntimeError, "an attempt at runs/other/seed0, which it was not given"),
    "exchanged": (exchanged, RuntimeError, "another run as that of runs/adamw/seed0"),
    "nothing": (lambda attempts: [None], TypeError, "NoneType instead of an Attempt"),
    "runs": (lambda attempts: [attempts[0].run], TypeError, "RecordedRun instead of an Attempt"),
}


@pytest.mark.parametrize(("spoil", "error", "message"), BREACHES.values(), ids=BREACHES)
def test_an_executor_yields_one_attempt_per_job_and_that_jobs_run(tmp_path, spoil, error, message):
    workshop = replace(made_workshop(tmp_path), executor=Broken(spoil))
    with pytest.raises(error, match=f"Broken yielded {message}") as raised:
        workshop.run(JOBS, made_board(JOBS))
    (note,) = raised.value.__notes__
    assert note.startswith("Every run that had ended is stored")
    for job in JOBS:  # what is stored is right
        stored = workshop.store.load(job.name)
        assert stored is None or (stored.run.arm, stored.run.seed) == (job.arm, job.seed)


def test_runs_of_two_lengths_cannot_be_exchanged(tmp_path):
    def fit(job):
        return replace(quick_fit(job), fingerprint=job.fingerprint)

    jobs = [made_job(block="runs", steps=30), made_job(block="horizons/15", steps=15)]
    workshop = replace(made_workshop(tmp_path), fit=fit, executor=Broken(exchanged))
    with pytest.raises(RuntimeError, match="another run as that of runs/adamw/seed0"):
        workshop.run(jobs, made_board(jobs))
    assert not list(tmp_path.rglob("*.json"))
    right = replace(workshop, executor=InOrder()).run(jobs, made_board(jobs))
    assert [stored.run.fingerprint for stored in right.values()] == [j.fingerprint for j in jobs]


def test_an_executor_that_raises_says_that_nothing_is_lost(tmp_path):
    def raising(attempts):
        yield attempts[0]
        raise ConnectionError("the pool went away")

    workshop = replace(made_workshop(tmp_path), executor=Broken(raising))
    with pytest.raises(ConnectionError, match="the pool went away") as raised:
        workshop.run(JOBS, made_board(JOBS))
    assert "repeat the command" in raised.value.__notes__[0]
    assert workshop.store.load(JOBS[0].name) is not None
    assert len(replace(workshop, executor=InOrder()).run(JOBS, made_board(JOBS))) == len(JOBS)


def test_a_stored_run_of_another_configuration_is_made_again(tmp_path):
    store, job = RunStore(tmp_path), made_job()
    run = replace(quick_fit(job), fingerprint=made_job(lr=0.2).fingerprint)
    store.save(StoredRun(job.fingerprint, job.config, run), job)
    assert store.load(job.name) is None
    assert store.is_damaged(job.name)


@pytest.mark.parametrize("count", [0, -1, 1.5, None])
def test_an_executor_says_how_many_runs_it_makes_at_once(tmp_path, monkeypatch, count):
    monkeypatch.setattr(LocalExecutor, "at_a_time", count)
    with pytest.raises(ValueError, match=r"`at_a_time` of .*LocalExecutor to be an integer"):
        choose_executor(Running(processes=3), tmp_path)


def written_by_a_run(note):
    """Wait for a run that writes, and return the folder that it wrote into."""
    tries = 1800  # it imports Lightning first, which takes a busy machine half a minute
    while not (note.is_file() and note.read_text()) and tries:
        time.sleep(0.1)
        tries -= 1
    assert Path(note.read_text(), "last.ckpt").is_file()
    return Path(note.read_text())


def test_what_a_killed_run_has_written_is_removed_before_the_next_begins(tmp_path):
    note = tmp_path / "folder"
    executor = LocalExecutor(tmp_path / "logs", processes=1)
    jobs = [made_job(seed=0, does="write and die", note=str(note)), made_job(seed=1)]
    ended = executor.run(quick_fit, jobs, lambda _: None)
    assert next(ended).run is None
    scratch = Path(note.read_text())
    assert not scratch.exists()
    assert next(ended).run is not None
    assert list(ended) == []
    assert not scratch.parent.parent.exists()


def test_what_a_run_has_written_goes_when_it_is_stopped(tmp_path):
    note = tmp_path / "folder"
    executor = LocalExecutor(tmp_path / "logs", processes=2)
    jobs = [made_job(seed=0, does="write", note=str(note)), made_job(seed=1)]
    running = executor.run(quick_fit, jobs, lambda _: None)
    assert next(running).job.seed == 1
    scratch = written_by_a_run(note)
    running.close()
    assert not scratch.parent.parent.exists()


STOPPED = """
import sys
from pathlib import Path
from lightning_qsgd.compare.executors import LocalExecutor
from tests.compare_jobs import made_job, quick_fit

if __name__ == "__main__":
    job = made_job(does="write", note=sys.argv[1])
    list(LocalExecutor(Path(sys.argv[2]), processes=1).run(quick_fit, [job], lambda _: None))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_a_run_removes_what_it_has_written_when_its_owner_is_killed(tmp_path):
    note, script = tmp_path / "folder", tmp_path / "stopped.py"
    script.write_text(STOPPED)
    owner = subprocess.Popen(
        [sys.executable, str(script), str(note), str(tmp_path / "logs")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        scratch = written_by_a_run(note)
    finally:
        owner.kill()
        owner.wait()
    tries = 600
    while scratch.parent.parent.exists() and tries:
        time.sleep(0.1)
        tries -= 1
    assert tries


class Full(RunStore):
    """Lies on a disk that has no room from the second run on."""

    def save(self, stored, job):
        if job.seed:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().save(stored, job)


def test_a_run_that_cannot_be_stored_says_what_is(tmp_path):
    workshop = replace(made_workshop(tmp_path), store=Full(tmp_path))
    with pytest.raises(OSError, match="No space left") as caught:
        workshop.run(JOBS, made_board(JOBS))
    (note,) = caught.value.__notes__
    assert note.startswith("runs/adamw/seed1 had ended and could not be stored. Every run that")
    assert RunStore(tmp_path).load(JOBS[0].name) is not None


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
