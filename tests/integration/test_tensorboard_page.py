"""TensorBoard's pages in a real browser: what they open on, and which charts they have."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_qsgd.cli.run_folder import hyperparameters
from lightning_qsgd.compare.tensorboard_runs import MEAN, write_tensorboard
from lightning_qsgd.tracking import page_of
from lightning_qsgd.training import (
    ConvergenceCallback,
    Goal,
    PerturbationCallback,
    TensorBoardCallback,
)
from tests.browser import needs_a_browser, photograph
from tests.comparison_cases import METRIC, case
from tests.integration.modules import VISIBLE, Finished, loader, make_trainer

pytestmark = needs_a_browser
GOAL = Goal(metric="val/loss", higher_is_better=False)
GROUP = re.compile(r'class="group-title" title="([^"]+)"')
CARD = re.compile(r'<tb-truncated-path[^>]* class="tag"[^>]* title="([^"]+)"')
TABS = {"timeseries", "scalars", "custom_scalars", "hparams"}


class Server:
    """A TensorBoard of one folder."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, path: str) -> Any:
        with urlopen(f"{self.address}/data/{path}", timeout=10) as answer:
            return json.load(answer)

    def charts(self) -> dict[str, dict[str, list[str]]]:
        """Return the tags of each chart of "Custom Scalars", as the page asks for them."""
        found = self.ask("plugin/custom_scalars/layout")
        return {
            category["title"]: {
                chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]
            }
            for category in found["category"]
        }

    def points(self, run: str, pattern: str) -> int:
        where = f"plugin/custom_scalars/scalars?run={quote(run)}&tag={quote(pattern)}"
        return sum(map(len, self.ask(where)["tag_to_events"].values()))

    def columns(self) -> list[str]:
        """Return the columns of the HParams table in their order, hyperparameters first."""
        found = self.ask(f"plugin/hparams/experiment?request={quote('{}')}")
        # The page sorts anew what differs before what does not; Python's sort is stable, too.
        infos = sorted(found["hparamInfos"], key=lambda one: not one.get("differs", False))
        return [one["name"] for one in infos]

    def lines(self) -> list[tuple[dict[str, Any], list[Any]]]:
        """Return each line of the HParams table: hyperparameters, and metrics in their order."""
        found = self.ask(f"plugin/hparams/experiment?request={quote('{}')}")
        columns = [one["name"]["tag"] for one in found["metricInfos"]]
        wanted = {"allowedStatuses": ["STATUS_SUCCESS"], "aggregationType": "AGGREGATION_AVG"}
        asked = quote(json.dumps({**wanted, "startIndex": 0, "sliceSize": 1000}))
        groups = self.ask(f"plugin/hparams/session_groups?request={asked}")["sessionGroups"]
        return [
            (
                group["hparams"],
                [
                    {m["name"]["tag"]: m["value"] for m in group["metricValues"]}.get(c)
                    for c in columns
                ],
            )
            for group in groups
        ]


@contextmanager
def served(folder: Path, runs: int) -> Iterator[Server]:
    """Serve a folder until its runs are there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Server(probe.getsockname()[1])
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    places = ["--host", "127.0.0.1", "--port", str(server.port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, *places], **quiet)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if len(server.ask("runs")) == runs:
                    break
            except (URLError, ConnectionError):
                pass
            assert time.monotonic() < deadline, "TensorBoard did not show the runs in a minute"
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    configs = {
        arm: {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": rate}}}
        for arm, rate in (("base", 0.1), ("better", 0.2))
    }
    configs["better"]["perturbation"] = {"strength": 0.5}
    return write_tensorboard(case(), tmp_path_factory.mktemp("comparison"), configs)


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain and a perturbed fit, with the callbacks of the command."""
    folder, base = tmp_path_factory.mktemp("fits"), ConvergenceCallback(GOAL)
    for arm, perturbation in (("sgd", None), ("sgd_perturbed", VISIBLE)):
        convergence = ConvergenceCallback(GOAL, base.run) if perturbation else base
        row = hyperparameters({"seed_everything": 0, "run": {"arm": arm}})
        callbacks = [convergence, TensorBoardCallback(row, goal=GOAL)]
        if perturbation:
            callbacks.insert(0, PerturbationCallback(perturbation))
        logger = TensorBoardLogger(folder, "", arm, default_hp_metric=False)
        settings = {"max_epochs": 2, "log_every_n_steps": 1, "logger": logger}
        make_trainer(*callbacks, **settings).fit(Finished(), loader(), loader(count=1))
    return folder


def is_a_picture(file: Path) -> bool:
    """Whether anything was painted: a blank page has one colour."""
    from PIL import Image

    with Image.open(file) as photo:
        return len(photo.convert("RGB").getcolors(2**24) or ()) > 100


def test_means_open_on_losses_and_have_data_on_every_tab(comparison: Path, tmp_path: Path) -> None:
    with served(comparison / MEAN, runs=6) as server:
        page = photograph(server.address, tmp_path / "means.png")
        assert is_a_picture(tmp_path / "means.png")
        assert GROUP.findall(page) == ["mean", "mean_gap"]
        assert CARD.findall(page)[:2] == ["mean/train/loss", f"mean/{METRIC}"]
        tabs = server.ask("plugins_listing").items()
        assert {name for name, tab in tabs if tab["enabled"]} == TABS

        charts = server.charts()
        assert {category: list(titles) for category, titles in charts.items()} == {
            "mean over seeds": [METRIC, "train/loss"],
            "mean gap to the baseline": [
                f"{METRIC} minus the baseline",
                "train/loss minus the baseline",
            ],
        }
        for titles in charts.values():
            for patterns in titles.values():
                assert all(server.points("better", pattern) for pattern in patterns)
        assert server.columns()[:2] == ["arm", "optimizer/lr"]


def test_lines_of_single_runs_begin_with_what_the_runs_have(
    comparison: Path, tmp_path: Path
) -> None:
    results = case()
    with served(comparison, runs=6 + len(results.runs)) as server:
        photograph(f"{server.address}/#hparams", tmp_path / "hparams.png")
        assert is_a_picture(tmp_path / "hparams.png")
        single = {
            (told["arm"], told["seed"]): values for told, values in server.lines() if "seed" in told
        }
    assert len(single) == len(results.runs)
    for run in results.runs:
        accuracy, loss = single[run.arm, run.seed][:2]
        assert (accuracy, loss) == pytest.approx((run.final[METRIC], 0.5))


def test_a_fit_opens_on_losses_where_its_command_says(fits: Path, tmp_path: Path) -> None:
    with served(fits, runs=2) as server:
        page = photograph(page_of(GOAL.loss, GOAL.metric, port=server.port), tmp_path / "fit.png")
        assert is_a_picture(tmp_path / "fit.png")
        assert CARD.findall(page)[:2] == ["train/loss", "val/loss"]
        charts = server.charts()
        assert list(charts) == ["every run", "gap to the baseline", "perturbation size", "cost"]
        for titles in charts.values():
            for patterns in titles.values():
                assert all(server.points("sgd_perturbed", pattern) for pattern in patterns)
        assert server.columns()[:2] == ["arm", "perturbation/strength"]
