"""Failing samplers, scripted, under every policy."""

import logging
import pickle
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.primitives import BaseSamplerV2, BitArray, DataBin, PrimitiveResult, SamplerPubResult
from qiskit_machine_learning.primitives import QMLSampler

from lightning_qsgd.backends import (
    FailurePolicy,
    GivenSampling,
    RaiseOnFailure,
    RetryOnFailure,
    SamplerBackend,
    SkipOnFailure,
    SkippedStep,
)
from lightning_qsgd.backends import failures as retry_on_failure
from lightning_qsgd.backends.evaluation import ChargedTo, CircuitLimitReached
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers.own_state import OwnState

CIRCUIT = SuperpositionCircuit(2, reps=1)
VALUES = torch.tensor([[0.3, -0.4], [0.1, 0.2]], dtype=torch.float64)
EXACT = SamplerBackend(CIRCUIT).readout(VALUES)


class Job:
    """A job with a scripted result."""

    def __init__(self, result: Any) -> None:
        self._result = result
        self.cancelled = False

    def result(self) -> Any:
        return self._result()

    def cancel(self) -> None:
        self.cancelled = True
        raise RuntimeError("too late")


class Flaky(BaseSamplerV2):  # type: ignore[misc]
    """Fails as the script says, one entry for each job; exact when the script has ended."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.jobs: list[Job] = []
        self.released = threading.Event()

    def run(self, pubs: Any, *, shots: int | None = None) -> Job:
        pubs = list(pubs)
        event = self.script.pop(0) if self.script else "exact"
        if event == "refuse":
            raise ConnectionError("no connection")
        if event == "interrupt":
            raise KeyboardInterrupt
        self.jobs.append(Job(lambda: self._result(event, pubs)))
        return self.jobs[-1]

    def _result(self, event: str, pubs: Any) -> Any:
        if event == "raise":
            raise RuntimeError("calibration")
        if event == "hang":
            self.released.wait(20)
        if event == "empty":
            bits = BitArray(np.zeros((2, 0, 1), dtype=np.uint8), num_bits=2)
            return PrimitiveResult([SamplerPubResult(DataBin(meas=bits, shape=(2,)))])
        if event == "nan":
            counts = SimpleNamespace(get_counts=lambda row: {"00": float("nan")})
            return [SimpleNamespace(data=SimpleNamespace(meas=counts))]
        return QMLSampler().run(pubs).result()


def backend(sampler: Flaky, policy: FailurePolicy, **settings: Any) -> SamplerBackend:
    return SamplerBackend(CIRCUIT, None, GivenSampling(sampler), policy, **settings)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(retry_on_failure, "sleep", slept.append)
    return slept


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        ("raise", Exception, "calibration"),
        ("refuse", ConnectionError, "no connection"),
        ("nan", FloatingPointError, r"not finite: .*No parameter was changed; check the sampler"),
        ("empty", FloatingPointError, r"do not sum to 1: shots are missing.*check the sampler"),
    ],
)
def test_failure_ends_the_evaluation_where_the_policy_is_to_raise(
    event: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        backend(Flaky(event), RaiseOnFailure()).readout(VALUES)


@pytest.mark.parametrize("event", ["raise", "refuse", "nan", "empty"])
def test_failure_is_tried_again_until_it_succeeds(event: str, waits: list[float]) -> None:
    policy = RetryOnFailure(attempts=4, backoff_seconds=0.5)
    readout = backend(Flaky(event, event, event), policy).readout(VALUES)
    torch.testing.assert_close(readout, EXACT, rtol=0, atol=1e-12)
    assert waits == [0.5, 1.0, 2.0]


def test_last_attempt_is_left_to_the_next_policy(waits: list[float]) -> None:
    with pytest.raises(SkippedStep, match="calibration"):
        backend(Flaky(*["raise"] * 3), RetryOnFailure(3, 0.0, SkipOnFailure(2))).readout(VALUES)
    with pytest.raises(ConnectionError):
        backend(Flaky(*["refuse"] * 3), RetryOnFailure(3, 0.0)).readout(VALUES)
    assert len(waits) == 4


def test_attempts_are_logged(waits: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        backend(Flaky("refuse"), RetryOnFailure(2, 3.0)).readout(VALUES)
    (record,) = caplog.messages
    assert record == "Attempt 1 of 2 failed (ConnectionError: no connection); trying again in 3 s."


@pytest.mark.parametrize("policy", [RetryOnFailure(5, 0.0), SkipOnFailure(5)], ids=str)
def test_interrupt_is_never_caught(policy: FailurePolicy) -> None:
    sampler = Flaky("interrupt")
    with pytest.raises(KeyboardInterrupt):
        backend(sampler, policy).readout(VALUES)
    assert sampler.jobs == []


@pytest.mark.parametrize("seconds", [None, 30.0])
def test_interrupt_cancels_what_was_started(seconds: float | None) -> None:
    sampler = Flaky()

    def interrupted(event: str, pubs: Any) -> Any:
        raise KeyboardInterrupt

    sampler._result = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        backend(sampler, RetryOnFailure(5, 0.0), timeout_seconds=seconds).readout(VALUES)
    assert [job.cancelled for job in sampler.jobs] == [True]


def test_job_that_hangs_is_cancelled_and_tried_again(waits: list[float]) -> None:
    sampler = Flaky("hang")
    policy = RetryOnFailure(2, 0.0)
    readout = backend(sampler, policy, timeout_seconds=0.3).readout(VALUES)
    sampler.released.set()
    torch.testing.assert_close(readout, EXACT, rtol=0, atol=1e-12)
    assert [job.cancelled for job in sampler.jobs] == [True, False]


def test_job_that_hangs_raises_when_its_time_is_over() -> None:
    sampler = Flaky("hang")
    with pytest.raises(TimeoutError, match=r"longer than 0.2 s.*`on_failure` what shall follow"):
        backend(sampler, RaiseOnFailure(), timeout_seconds=0.2).readout(VALUES)
    sampler.released.set()


def test_time_limit_leaves_results_and_keys_alone() -> None:
    keys = np.arange(2, dtype=np.uint64)
    limited = SamplerBackend(CIRCUIT, None, 50, timeout_seconds=60.0).readout(VALUES, keys)
    assert torch.equal(limited, SamplerBackend(CIRCUIT, None, 50).readout(VALUES, keys))


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_each_attempt_is_counted(seconds: float | None, waits: list[float]) -> None:
    account = OwnState()
    policy = RetryOnFailure(3, 0.0)
    with ChargedTo(account):
        backend(Flaky("raise", "nan"), policy, timeout_seconds=seconds).readout(VALUES)
    assert account.circuits == 3 * 2


def test_shifted_circuits_of_a_gradient_are_counted_where_the_forward_pass_was() -> None:
    account = OwnState()
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    with ChargedTo(account):
        readout = backend(Flaky(), RaiseOnFailure()).readout(VALUES, None, weights)
    readout.sum().backward()
    assert account.circuits == 2 + 2 * 2 * 4  # two shifts of four weights, two rows


@pytest.mark.parametrize("policy", [RetryOnFailure(5, 0.0), SkipOnFailure(5)], ids=str)
@pytest.mark.parametrize("seconds", [None, 60.0])
@pytest.mark.parametrize("limit", [4, 5])
def test_limit_is_reached_before_the_job_and_not_caught(
    policy: FailurePolicy, seconds: float | None, limit: int, waits: list[float]
) -> None:
    sampler, account = Flaky(), OwnState()
    limited = backend(sampler, policy, timeout_seconds=seconds, max_circuits=limit)
    with ChargedTo(account):
        limited.readout(VALUES)
        limited.readout(VALUES)
        message = rf"Cannot evaluate 2 more circuits: 4 were evaluated, .*_circuits` is {limit}"
        with pytest.raises(CircuitLimitReached, match=message):
            limited.readout(VALUES)
    assert (account.circuits, len(sampler.jobs), waits) == (4, 2, [])


def test_limit_holds_in_gradients() -> None:
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    with ChargedTo(OwnState()):
        limited = backend(Flaky(), RetryOnFailure(3, 0.0), max_circuits=10)
        readout = limited.readout(VALUES, None, weights)
        with pytest.raises(CircuitLimitReached, match="Cannot evaluate 16 more circuits"):
            readout.sum().backward()


def test_failure_of_a_gradient_follows_the_policy() -> None:
    weights = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    skipping = backend(Flaky("exact", "raise"), SkipOnFailure(5))
    readout = skipping.readout(VALUES, None, weights)
    with pytest.raises(SkippedStep, match="job failed"):
        readout.sum().backward()


def test_request_to_skip_survives_its_way_to_another_process() -> None:
    request = pickle.loads(pickle.dumps(SkippedStep("no reason", 7)))
    assert (request.reason, request.limit) == ("no reason", 7)
    assert "The circuits failed (no reason)" in str(request)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: RetryOnFailure(1), ValueError, r"`attempts` to be at least 2, got 1.*RaiseOnFail"),
        (
            lambda: RetryOnFailure(2, -1.0),
            ValueError,
            r"`backoff_seconds` to be non-negative and finite, got -1.0.*Use 0",
        ),
        (lambda: RetryOnFailure(2, float("inf")), ValueError, r"got inf"),
        (
            lambda: RetryOnFailure(2, 1.0, RetryOnFailure()),
            TypeError,
            r"`then` to raise or to skip, got RetryOnFailure.*Use RaiseOnFailure or SkipOnFailure",
        ),
        (lambda: SkipOnFailure(0), ValueError, r"`limit` to be at least 1, got 0.*RaiseOnFailure"),
    ],
)
def test_policies_out_of_range_are_refused(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()
