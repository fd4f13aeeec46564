"""Published figures are quoted as printed, beside what the comparison measured."""

from dataclasses import replace
from math import inf, nan

import pytest

from lightning_qsgd.compare import Comparison, analyse
from lightning_qsgd.compare.report.origin import published_section
from lightning_qsgd.compare.results.published import Published
from tests.comparison_cases import METHOD, METRIC, made_curve, made_results, timed, written

FIGURES = {
    "final": "93.8 ± 0.7 %",
    "gain": "+2.3 points",
    "epochs_to_target": 4.6,
    "time_per_epoch": "+35 %",
    "time_to_target": "-16 %",
}
VALUES = {"base": [0.5, 0.6, 0.7, 0.8], "arm": [0.6, 0.7, 0.8, 0.9]}


def quoting(figures, steps=None, seconds=None):
    """Results whose runs reach the target at the given steps, ten per point, a second each."""
    results = made_results(VALUES, target=0.5)
    steps = steps or {"base": [40, 40, 40, 40], "arm": [20, 20, 30, None]}
    seconds = seconds or {"base": 0.1, "arm": 0.135}

    def timely(run):
        when = steps[run.arm][run.seed]
        points = [0.0] * 4 if when is None else [float(10 * n >= when) for n in range(1, 5)]
        timing = timed(seconds[run.arm])
        return replace(run, curves={METRIC: made_curve(points)}, timing=timing)

    comparison = replace(results.comparison, published=Published("a paper, Fig. 1", figures))
    return replace(results, runs=tuple(map(timely, results.runs)), comparison=comparison)


def rows(results):
    (_, _, table) = published_section(results, analyse(results, METHOD))
    return {(arm, figure): (quoted, measured) for arm, figure, quoted, measured in table.rows}


def test_every_figure_stands_beside_the_measured_one():
    found = rows(quoting({"arm": FIGURES}))
    assert found == {
        ("arm", f"final {METRIC}"): ("93.8 ± 0.7 %", "0.75 ± 0.1291 (mean and sd of 4 runs)"),
        ("arm", "gain over base"): ("+2.3 points", "+0.1 (95 % by t: +0.1 to +0.1)"),
        ("arm", f"epochs to {METRIC} = 0.5"): (
            "4.6",
            "median 0.2; mean 0.2333 of the 3 of 4 that reached it",
        ),
        ("arm", "time per epoch, against base"): ("+35 %", "+35 %"),
        ("arm", f"time to {METRIC} = 0.5, against base"): ("-16 %", "-50 %"),
    }


def test_what_was_not_measured_is_a_dash_and_what_never_came_is_called_so():
    never = {"base": [None] * 4, "arm": [None] * 4}
    results = quoting({"base": FIGURES}, never, {"base": nan, "arm": nan})
    measured = [cell for _, cell in rows(results).values()]
    assert measured[1:] == ["-", "never", "-", "never, against never"]
    unreached = quoting({"arm": FIGURES}, {"base": [40] * 4, "arm": [None] * 4})
    assert [cell for _, cell in rows(unreached).values()][-1] == "never, against 40"


def test_report_quotes_the_source_and_is_silent_without_figures(without_matplotlib, tmp_path):
    _, markdown = written(quoting({"arm": {"gain": "+2.3 points"}}), tmp_path)
    assert "## Beside published figures\n\nPublished: a paper, Fig. 1, quoted as" in markdown
    assert "| arm | gain over base | +2.3 points | +0.1 (95 % by t: +0.1 to +0.1) |" in markdown
    _, markdown = written(made_results(VALUES), tmp_path)
    assert "published" not in markdown.lower()


def test_figures_change_no_verdict_and_no_statistic():
    quoted = quoting({"arm": FIGURES})
    plain = replace(quoted, comparison=replace(quoted.comparison, published=Published()))
    assert repr(analyse(quoted, METHOD)) == repr(analyse(plain, METHOD))


def test_figures_without_a_source_are_refused():
    with pytest.raises(ValueError, match=r"`published.source` to say where .* Name the paper"):
        Published(" ", {"arm": {"gain": 1}})


def test_figures_of_something_that_is_not_measured_are_refused():
    with pytest.raises(ValueError, match=r"got 'gian': .* Did you mean 'gain'\?"):
        Published("a paper", {"arm": {"gian": 1}})


def test_figures_of_an_arm_that_is_not_compared_are_refused():
    arms = made_results(VALUES).comparison.arms
    published = Published("a paper", {"amr": {"gain": inf}})
    with pytest.raises(ValueError, match=r"arms that are compared, got 'amr'.* mean 'arm'\?"):
        Comparison("x", made_results(VALUES).comparison.goal, arms, (0,), "", published)
