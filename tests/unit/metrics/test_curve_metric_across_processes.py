"""Two real processes, joined by gloo, agree on one curve."""

import json
import os
import time

import pytest
import torch
from torch import multiprocessing

from lightning_qsgd.metrics import (
    AreaUnderLossCurve,
    BestValue,
    GapToBaseline,
    SpeedupOverBaseline,
    StepsToTarget,
)

DEADLINE_SECONDS = 120
BASELINE = ([0.0, 30.0], [3.0, 0.0])


def metrics():
    return {
        "steps": StepsToTarget(1.0),
        "smoothed": StepsToTarget(1.0, window=2),
        "area": AreaUnderLossCurve(),
        "best": BestValue(),
        "gap": GapToBaseline(*BASELINE),
        "speedup": SpeedupOverBaseline(*BASELINE, target=1.0),
    }


def points_of(rank, case):
    shards = {
        "same_steps": [[(3.0, 0), (2.0, 10), (0.5, 20)], [(5.0, 0), (1.0, 10), (0.7, 20)]],
        "uneven_steps": [[(3.0, 0)], [(2.5, 5), (1.0, 16777217), (0.8, 16777218)]],
        "one_rank_has_nothing": [[(3.0, 0), (0.9, 16777217)], []],
        "rank_zero_has_nothing": [[], [(3.0, 0), (0.9, 16777217)]],
        "nobody_has_anything": [[], []],
    }
    return shards[case][rank]


CASES = [
    "same_steps",
    "uneven_steps",
    "one_rank_has_nothing",
    "rank_zero_has_nothing",
    "nobody_has_anything",
]


def results_of_rank(rank, case):
    results = {}
    for name, metric in metrics().items():
        for value, step in points_of(rank, case):
            metric.update(value, step)
        results[name] = metric.compute().item()
        local = sum(chunk.numel() for chunk in metric.steps)
        assert local == len(points_of(rank, case)), "unsync must give the local points back"
    return results


def refusal_while_synced():
    metric = BestValue()
    metric.update(1.0, 0)
    metric.sync()
    try:
        metric.update(2.0, 1)
    except RuntimeError as error:
        return str(error)
    return "no refusal"


def worker(rank, folder):
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    results = {case: results_of_rank(rank, case) for case in CASES}
    results["refusal"] = refusal_while_synced()
    with open(f"{folder}/{rank}.json", "w") as file:
        json.dump(results, file)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results_of_both(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("gloo"))
    context = multiprocessing.start_processes(
        worker, args=(folder,), nprocs=2, join=False, start_method="spawn"
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while not context.join(timeout=1.0):
            assert time.monotonic() < deadline, "the two processes did not finish in time"
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
    loaded = []
    for rank in range(2):
        with open(f"{folder}/{rank}.json") as file:
            loaded.append(json.load(file))
    return loaded


@pytest.mark.parametrize("name", metrics())
@pytest.mark.parametrize("case", CASES[:-1])
def test_both_processes_compute_the_result_of_all_points(results_of_both, case, name):
    alone = metrics()[name]
    for value, step in points_of(0, case) + points_of(1, case):
        alone.update(value, step)
    expected = pytest.approx(alone.compute().item(), rel=1e-14, nan_ok=True)

    assert [results[case][name] for results in results_of_both] == [expected, expected]


@pytest.mark.parametrize("name", metrics())
def test_processes_without_any_point_agree_on_nan(results_of_both, name):
    nan = pytest.approx(float("nan"), nan_ok=True)

    assert [results["nobody_has_anything"][name] for results in results_of_both] == [nan, nan]


def test_a_synchronised_metric_refuses_points_it_would_lose(results_of_both):
    message = "Cannot record a point in BestValue: it is synchronised"

    assert all(message in results["refusal"] for results in results_of_both)


@pytest.mark.parametrize("name", metrics())
@pytest.mark.parametrize("case", CASES[:-1])
def test_merging_two_metrics_equals_two_processes(results_of_both, case, name):
    pair = [metrics()[name] for _ in range(2)]
    for rank, metric in enumerate(pair):
        for value, step in points_of(rank, case):
            metric.update(value, step)
    pair[0].merge_state(pair[1])

    expected = pytest.approx(results_of_both[0][case][name], rel=1e-14, nan_ok=True)
    assert pair[0].compute().item() == expected
