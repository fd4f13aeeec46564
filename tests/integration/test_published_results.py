"""Every gain that the documentation quotes from a comparison follows from its raw file."""

import csv
import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from lightning_qsgd.compare import analyse, verdicts

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAGES = sorted(file.with_name("index.md") for file in RESULTS.rglob("results.csv"))
SUITES = sorted(set(RESULTS.glob("*/index.md")).difference(PAGES))
QUESTION = re.compile(r"^metric, arm, baseline, sign = '(.+)', '.+', '(.+)', (-?1)$", re.MULTILINE)
GAINS = re.compile(
    r"^\| (?P<arm>\S+) \| (?P<pairs>\d+) \| (?P<gain>\S+) \| (?P<low>\S+) to (?P<high>\S+) "
    r"\| [^|]+ \| (?P<d>\S+) \| (?P<wins>\d+) % \|",
    re.MULTILINE,
)


def name_of(page: Path) -> str:
    return str(page.parent.relative_to(RESULTS))


def finals_of(page: Path) -> tuple[dict[tuple[str, str], float], str, int]:
    """Return the final metric by arm and seed, the baseline, and the sign of a gain."""
    metric, baseline, sign = QUESTION.search(page.read_text()).groups()
    with (page.parent / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "done"]
    return {(row["arm"], row["seed"]): float(row[metric]) for row in rows}, baseline, int(sign)


def gains_of(page: Path) -> dict[str, np.ndarray]:
    """Compute the gains of each arm over the baseline from the raw file alone."""
    value, baseline, sign = finals_of(page)
    arms = {arm for arm, _ in value} - {baseline}
    return {
        arm: np.array(
            [
                sign * (value[arm, seed] - value[baseline, seed])
                for name, seed in value
                if name == arm and (baseline, seed) in value
            ]
        )
        for arm in arms
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_gains_that_are_quoted_follow_from_the_raw_file(page):
    computed, quoted = gains_of(page), list(GAINS.finditer(page.read_text()))

    assert {row["arm"] for row in quoted} == computed.keys()
    for row in quoted:
        gains = computed[row["arm"]]
        assert len(gains) == int(row["pairs"])
        assert gains.mean() == pytest.approx(float(row["gain"]), rel=6e-3, abs=1e-12)
        wins = np.mean((gains > 0) + (gains == 0) / 2)
        assert 100 * wins == pytest.approx(float(row["wins"]), abs=0.51)
        if gains.std(ddof=1) > 0:
            d = gains.mean() / gains.std(ddof=1)
            assert d == pytest.approx(float(row["d"]), rel=6e-3, abs=1e-12)
        assert float(row["low"]) - 1e-9 <= gains.mean() * 1.006 + 1e-9
        assert gains.mean() <= float(row["high"]) * 1.006 + 1e-9


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_published_comparison_has_its_plan_and_names_no_path_of_a_machine(page):
    places = (page.parent, page.parent.parent)  # of a suite there is one for all tasks
    assert any((place / "plan.yaml").is_file() for place in places)
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp)/", page.read_text())


def test_comparisons_without_raw_files_are_marked():
    log = (RESULTS / "index.md").read_text()
    published = {page.parent.name for page in (*PAGES, *SUITES)}

    for section in re.split(r"(?m)^## ", log)[1:]:
        if "lightning-qsgd compare --config" in section:
            named = any(name in section for name in published)
            assert named or "raw files are lost" in section, section.splitlines()[0]


MINUS = "\N{MINUS SIGN}"
REGISTERED = re.compile(
    r"^\| `(?P<arm>[^`]+)`[^|]* \|[^|]*\|[^|]*\|[^|]*\| (?P<seeds>\d+) \| (?P<gain>\S+) "
    r"\|[^|]*\|[^|]*\| \[[\d-]+\]\((?P<page>[^)]+)\) \|$",
    re.MULTILINE,
)


def on_trial(page: Path) -> set[str]:
    with (page.parent / "results.csv").open() as file:
        return {row["arm"] for row in csv.DictReader(file) if row["kind"] == "arm"}


def suite_gains(page: Path) -> dict[str, float]:
    """Compute the mean over tasks of each arm's gain in standard deviations of the baseline."""
    tasks = [task for task in PAGES if task.parent.parent == page.parent]
    scaled: dict[str, list[float]] = {}
    for task in tasks:
        value, baseline, _ = finals_of(task)
        spread = np.std([found for (arm, _), found in value.items() if arm == baseline], ddof=1)
        for arm, gains in gains_of(task).items():
            scaled.setdefault(arm, []).append(gains.mean() / spread)
    return {arm: float(np.mean(gains)) for arm, gains in scaled.items()}


def registered() -> list[tuple[Path, str, int, float]]:
    rows = REGISTERED.finditer((RESULTS / "registry.md").read_text())
    return [
        (
            RESULTS / row["page"],
            row["arm"],
            int(row["seeds"]),
            float(row["gain"].replace(MINUS, "-")),
        )
        for row in rows
    ]


def test_the_registry_names_each_published_arm_on_trial_with_its_gain():
    alone = [page for page in PAGES if page.parent.parent == RESULTS]
    computed = {page: gains_of(page) for page in alone}
    rows = [row for row in registered() if row[0] in computed]

    missing = {(page, arm) for page in alone for arm in on_trial(page)} - {row[:2] for row in rows}
    assert not missing, "add rows to docs/results/registry.md"
    for page, arm, seeds, written in rows:
        gains = computed[page][arm]
        assert len(gains) == seeds
        assert gains.mean() == pytest.approx(written, rel=6e-3, abs=1e-12)


@pytest.mark.parametrize("page", SUITES, ids=name_of)
def test_the_registry_names_each_arm_of_a_suite_with_its_gain_over_all_tasks(page):
    computed = suite_gains(page)
    written = {arm: gain for place, arm, _, gain in registered() if place == page}

    assert written.keys() == computed.keys()
    for arm, gain in written.items():
        assert computed[arm] == pytest.approx(gain, rel=6e-3, abs=1e-12)


@pytest.mark.parametrize("page", SUITES, ids=name_of)
def test_gains_over_a_suite_follow_from_the_raw_files(page):
    computed = suite_gains(page)
    quoted = re.findall(r"^\| (\S+) \| ([+-]?[\d.e-]+) \| \S+ to \S+ \|", page.read_text(), re.M)

    assert {arm for arm, _ in quoted} == computed.keys()
    for arm, gain in quoted:
        assert computed[arm] == pytest.approx(float(gain), rel=6e-3, abs=1e-12)


def test_the_page_of_a_suite_follows_from_the_raw_files(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(RESULTS.parents[1])
    name = "2026-11-29-league-again"
    folder = shutil.copytree(RESULTS / name, tmp_path / name)
    was = (folder / "index.md").read_text()

    import_module("docs.published").make_page(folder, alpha=0.0375)

    for start in ("- `", "| "):  # answers and numbers; words around them may be older
        rows = [
            [line for line in page.splitlines() if line.startswith(start)]
            for page in (was, (folder / "index.md").read_text())
        ]
        assert rows[0] == rows[1]
        assert len(rows[0]) > 10


def test_the_picture_of_gains_gives_the_verdicts_of_the_page(monkeypatch):
    monkeypatch.syspath_prepend(RESULTS.parents[1])
    published = import_module("docs.published").published
    page = (RESULTS / "2026-11-29-digits" / "index.md").read_text()
    row = r"^\| (?!arm )(\S+) \| (?:arm|control|reference) \| ([a-z ]+) \|"
    told = dict(re.findall(row, page, re.MULTILINE))

    judged = verdicts(analyse(published("2026-11-29-digits")))

    assert {arm: verdict.outcome.value for arm, verdict in judged.items()} == told
    assert len(told) == 22
