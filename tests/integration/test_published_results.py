"""Every gain that the documentation quotes from a comparison follows from its raw file."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

RESULTS = Path(__file__).parents[2] / "docs" / "results"
PAGES = sorted(RESULTS.glob("*/index.md"))
QUESTION = re.compile(r"^metric, arm, baseline, sign = '(.+)', '.+', '(.+)', (-?1)$", re.MULTILINE)
GAINS = re.compile(
    r"^\| (?P<arm>\S+) \| (?P<pairs>\d+) \| (?P<gain>\S+) \| (?P<low>\S+) to (?P<high>\S+) "
    r"\| [^|]+ \| (?P<d>\S+) \| (?P<wins>\d+) % \|",
    re.MULTILINE,
)


def gains_of(page: Path) -> dict[str, np.ndarray]:
    """Compute the gains of each arm over the baseline from the raw file alone."""
    metric, baseline, sign = QUESTION.search(page.read_text()).groups()
    with (page.parent / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "done"]
    value = {(row["arm"], row["seed"]): float(row[metric]) for row in rows}
    arms = {arm for arm, _ in value} - {baseline}
    return {
        arm: np.array(
            [
                int(sign) * (value[arm, seed] - value[baseline, seed])
                for name, seed in value
                if name == arm and (baseline, seed) in value
            ]
        )
        for arm in arms
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_published_comparison_has_its_plan_and_names_no_path_of_a_machine(page):
    assert (page.parent / "plan.yaml").is_file()
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp)/", page.read_text())


def test_comparisons_without_raw_files_are_marked():
    log = (RESULTS / "index.md").read_text()
    published = {page.parent.name for page in PAGES}

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


def test_the_registry_names_each_published_arm_on_trial_with_its_gain():
    rows = list(REGISTERED.finditer((RESULTS / "registry.md").read_text()))
    computed = {page: gains_of(page) for page in PAGES}

    registered = {(RESULTS / row["page"], row["arm"]) for row in rows}
    missing = {(page, arm) for page in PAGES for arm in on_trial(page)} - registered
    assert not missing, "add rows to docs/results/registry.md"
    for row in rows:
        gains = computed[RESULTS / row["page"]][row["arm"]]
        assert len(gains) == int(row["seeds"])
        written = float(row["gain"].replace(MINUS, "-"))
        assert gains.mean() == pytest.approx(written, rel=6e-3, abs=1e-12)
