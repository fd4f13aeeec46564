"""What the pictures show, read back from their axes."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from lightning_qsgd.compare import (
    Arm,
    Method,
    Results,
    analyse,
    verdicts,
)
from lightning_qsgd.compare.report import write_report
from lightning_qsgd.compare.report.curve_pictures import (
    MOST_POINTS,
    band_of,
    draw_bands,
    draw_gap,
    draw_reached,
    draw_sizes,
    gain_curves,
)
from lightning_qsgd.compare.report.panels import (
    ARM,
    NARROW,
    OWN,
    SHADE,
    WIDE,
    draw_gains,
    draw_twins,
)
from lightning_qsgd.compare.report.pictures import to_png
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.recorded_run import RecordedCurve
from tests.comparison_cases import METRIC, made_curve, made_results, made_run, noise

METHOD = Method(resamples=999)


def curve(steps, values):
    return RecordedCurve(list(steps), [0.0] * len(steps), [0.0] * len(steps), list(values))


def of_curves(curves, tag=METRIC, target=None, higher_is_better=True):
    """Results from curves by arm, one per seed."""
    frame = made_results(
        {name: [0.0] * len(own) for name, own in curves.items()},
        target=target,
        higher_is_better=higher_is_better,
    )
    runs = tuple(
        made_run(name, seed, one.values[-1], curves={tag: one})
        for name, own in curves.items()
        for seed, one in enumerate(own)
    )
    return Results(frame.comparison, runs)


@given(st.integers(2, 6), st.integers(1, 30), st.integers(0, 99))
def test_band_is_mean_and_t_interval_at_every_step(seeds, points, seed):
    values = np.random.default_rng(seed).normal(size=(seeds, points))
    band = band_of([made_curve(row) for row in values], alpha=0.1)
    for i in range(points):
        low, high = stats.ttest_1samp(values[:, i], 0).confidence_interval(0.9)
        assert (band.mean[i] - band.half[i], band.mean[i] + band.half[i]) == pytest.approx(
            (low, high)
        )


def test_band_reads_curves_between_their_points_and_only_where_all_have_been():
    band = band_of([curve([0, 10, 20], [0, 10, 20]), curve([5, 15], [0, 0])], alpha=0.05)
    assert band.steps.tolist() == [5, 10, 15]
    assert band.mean.tolist() == [2.5, 5, 7.5]


@pytest.mark.parametrize("diverged", [math.nan, math.inf, -math.inf])
def test_divergence_of_one_seed_is_a_gap_in_the_mean(diverged):
    band = band_of([curve([1, 2], [1, 1]), curve([1, 2], [1, diverged])], alpha=0.05)
    assert band.mean[0] == 1
    assert math.isnan(band.mean[1])


def test_one_seed_has_no_width_and_no_curve_no_band():
    assert band_of([curve([1, 2], [1, 3])], 0.05).half.tolist() == [0, 0]
    assert band_of([], 0.05) is None
    assert band_of([curve([], [])], 0.05) is None
    assert band_of([curve([1], [1]), curve([2], [1])], 0.05) is None


def test_long_curves_are_averaged_piece_by_piece():
    values = noise(0, 1000)
    band = band_of([made_curve(values)], 0.05)
    assert len(band.steps) == MOST_POINTS
    pieces = np.array_split(values, MOST_POINTS)
    assert band.mean == pytest.approx([piece.mean() for piece in pieces])


@pytest.mark.parametrize(("higher_is_better", "sign"), [(True, 1), (False, -1)])
def test_gain_curves_subtract_the_baseline_of_the_same_seed(higher_is_better, sign):
    base = [made_curve([1, 2]), made_curve([5, 5])]
    arm = [made_curve([2, 4]), made_curve([5, 6])]
    results = of_curves({"base": base, "arm": arm}, higher_is_better=higher_is_better)
    gains = [[sign * x for x in one.values] for one in gain_curves(results, "arm")]
    assert gains == [[1, 2], [0, 1]]


def lines(chart):
    return {line.get_label(): line for line in chart.get_lines()}


def test_charts_show_arm_baseline_and_controls():
    arms = (Arm("base", "baseline"), Arm("arm", controls=("control",)), Arm("control", "control"))
    results = made_results({arm.name: [1.0] * 3 for arm in arms}, arms)
    runs = tuple(
        made_run(run.arm, run.seed, 1, curves={METRIC: made_curve([1, 2, 3])})
        for run in results.runs
    )
    figure = draw_bands(Results(results.comparison, runs), METRIC, 0.05)
    (chart,) = figure.axes
    assert chart.get_title(loc="left") == "arm"
    assert lines(chart).keys() == {"base", "arm", "control"}
    assert to_hex(lines(chart)["arm"].get_color()) == ARM
    assert lines(chart)["arm"].get_ydata().tolist() == [1, 2, 3]


def test_first_huge_values_do_not_press_the_loss_flat():
    loss = [1000.0, *[1.0] * 99]
    results = of_curves(
        {"base": [made_curve(loss)] * 2, "arm": [made_curve(loss)] * 2}, "train/loss"
    )
    assert draw_bands(results, "train/loss", 0.05).axes[0].get_ylim()[1] < 3


def test_gap_is_drawn_around_the_baseline_as_zero():
    base, arm = [made_curve([1, 2])] * 2, [made_curve([2, 4])] * 2
    (chart,) = draw_gap(of_curves({"base": base, "arm": arm}), 0.05).axes
    assert list(lines(chart)["base"].get_ydata()) == [0, 0]
    assert lines(chart)["arm"].get_ydata().tolist() == [1, 2]


def test_share_of_seeds_rises_where_a_seed_reaches_the_target():
    reached = [made_curve([0.1, 0.9, 0.9]), made_curve([0.1, 0.1, 0.9]), made_curve([0.1] * 3)]
    never = [made_curve([0.1] * 3)] * 3
    (chart,) = draw_reached(of_curves({"base": never, "arm": reached}, target=0.5)).axes
    line = lines(chart)["arm"]
    assert list(line.get_xdata()) == [0, 20, 30, 30]
    assert line.get_ydata() == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])
    assert line.get_drawstyle() == "steps-post"  # a seed counts from its step on, not before
    assert max(lines(chart)["base"].get_ydata()) == 0


def test_sizes_have_a_scale_of_powers_and_leave_out_arms_without_any():
    sizes = {
        "base": [made_curve([0.0])],
        "small": [made_curve([1e-6])],
        "zero": [made_curve([0.0])],
    }
    (chart,) = draw_sizes(of_curves(sizes, tags.RELATIVE_SIZE), 0.05).axes
    assert chart.get_yscale() == "log"
    assert chart.get_title(loc="left") == "small"


def test_nothing_recorded_gives_no_picture():
    results = made_results({"base": [0.1, 0.2], "arm": [0.1, 0.2]})
    analysis = analyse(results, METHOD)
    assert draw_bands(results, METRIC, 0.05) is None
    assert draw_gap(results, 0.05) is None
    assert draw_reached(results) is None
    assert draw_sizes(results, 0.05) is None
    assert draw_gains(analysis, verdicts(analysis), METRIC) is None


def test_gains_are_drawn_with_the_interval_of_the_verdict_and_its_words():
    base = noise(0, 8)
    values = {"base": base.tolist(), "arm": (base + 0.3 + 0.1 * noise(1, 8)).tolist()}
    analysis = analyse(made_results(values), METHOD)
    interval = analysis.challenges[0].interval
    axes, words = draw_gains(analysis, verdicts(analysis), METRIC).axes
    spans = [tuple(part[:, 0]) for c in axes.collections for part in c.get_segments()]
    ends = [interval.low, interval.high]
    assert np.ravel(spans) == pytest.approx(ends)
    assert axes.get_lines()[-1].get_xdata() == pytest.approx([analysis.challenges[0].gain.mean])
    assert [label.get_text() for label in words.get_yticklabels()] == ["better"]


def twins_analysis():
    base = noise(0, 8)
    shifts = {"base": 0.0, "circuit": 0.3, "product": 0.2, "linear": 0.3, "other": 0.1}
    values = {
        name: (base + shift + 0.05 * noise(number, 8)).tolist()
        for number, (name, shift) in enumerate(shifts.items())
    }
    kinds = {"base": "baseline", "product": "control", "linear": "control"}
    arms = tuple(Arm(name, kinds.get(name, "arm")) for name in values if name != "circuit")
    arms += (Arm("circuit", controls=("product", "linear")),)
    return analyse(made_results(values, arms), METHOD)


def test_circuit_product_and_linear_stand_in_one_picture_with_their_differences():
    analysis = twins_analysis()
    axes, words = draw_twins(analysis, METRIC).axes
    named = [label.get_text() for label in axes.get_yticklabels()]
    assert named == ["circuit", "product", "linear"]
    by_name = {one.arm.name: one for one in analysis.challenges}
    means = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "D"]
    assert means == pytest.approx([by_name[name].gain.mean for name in named])
    over = by_name["circuit"].over_controls
    said = [label.get_text() for label in words.get_yticklabels()]
    assert said[0] == "the arm"
    for text, name in zip(said[1:], named[1:], strict=True):
        assert text.startswith(f"arm {over[name].mean:+.2g} (")
    values = {"base": noise(0, 8).tolist(), "arm": noise(1, 8).tolist()}
    assert draw_twins(analyse(made_results(values), METHOD), METRIC) is None


def noisy_comparison(arms, controls, seeds):
    """Everything that a report draws, with noise on every curve."""
    draw = np.random.default_rng(0)
    asked = [Arm("adamw", "baseline")]
    asked += [
        Arm(f"arm_number_{i}", controls=(f"control_{i}",) if i < controls else (), description="a")
        for i in range(arms - controls)
    ]
    asked += [Arm(f"control_{i}", "control", description="b") for i in range(controls)]
    runs = []
    for arm in asked:
        for seed, last in enumerate(0.9 + 0.01 * draw.normal(size=seeds)):
            metric = last * (1 - np.exp(-np.arange(1, 25) / 4)) + 0.01 * draw.normal(size=24)
            loss = 2 * np.exp(-np.arange(120) / 24) + 0.03 * draw.normal(size=120)
            curves = {METRIC: made_curve(metric, 25), "train/loss": made_curve(loss, 5)}
            if arm.kind != "baseline":
                sizes = 0.1 * np.exp(0.2 * draw.normal(size=40))
                curves[tags.RELATIVE_SIZE] = made_curve(sizes, 15)
            runs.append(made_run(arm.name, seed, last, curves=curves))
    frame = made_results({arm.name: [0.0] * seeds for arm in asked}, tuple(asked), target=0.8)
    return Results(frame.comparison, tuple(runs))


def test_report_takes_no_more_than_25_kilobytes_per_arm(tmp_path):
    """At two dozen arms: what does not grow with the arms makes 40 arms less than a megabyte."""
    page = write_report(noisy_comparison(arms=24, controls=8, seeds=8), tmp_path, METHOD)
    assert len(list(tmp_path.glob("*.png"))) == 7
    assert 4e5 < page.stat().st_size < 24 * 25_000


def test_a_picture_keeps_its_frequent_colours_as_they_are():
    figure = Figure(figsize=(2, 2))
    figure.subplots().axhspan(0, 1, color=SHADE)
    with Image.open(io.BytesIO(to_png(figure))) as picture:
        frequent = sorted(picture.convert("RGB").getcolors(), reverse=True)[:2]
    assert {to_hex([value / 255 for value in colour]) for _, colour in frequent} == {
        "#ffffff",
        SHADE,
    }


def test_colours_that_say_something_are_kept_as_they_are():
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    axes.imshow(np.linspace(0, 1, 400).reshape(20, 20), cmap="viridis")
    for height, colour in enumerate(sorted(OWN)):
        axes.hlines(height, 0, 5, color=colour, linewidth=3)
    with Image.open(io.BytesIO(to_png(figure))) as picture:
        colours = [colour for _, colour in picture.convert("RGB").getcolors()]
    assert {to_hex([value / 255 for value in colour]) for colour in colours} >= OWN


def test_a_thin_line_keeps_its_colour_in_a_picture_of_many():
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    axes.imshow(np.linspace(0, 1, 400).reshape(20, 20), cmap="Blues")
    axes.plot([0, 1], [0, 0], color="#d62728", linewidth=1.5)
    with Image.open(io.BytesIO(to_png(figure))) as picture:
        colours = [colour for _, colour in picture.convert("RGB").getcolors()]
    assert min(sum(abs(a - b) for a, b in zip(c, (214, 39, 40), strict=True)) for c in colours) < 9


@pytest.mark.parametrize("narrow", [False, True])
def test_letters_are_as_large_on_a_telephone_as_on_a_desk(narrow):
    analysis = twins_analysis()
    page = {"page": NARROW} if narrow else {}
    figure = draw_gains(analysis, verdicts(analysis), METRIC, **page)
    figure.draw_without_rendering()
    letters = [text for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels())]
    shown = [text for text in letters if text.get_text()]
    assert {one.arm.name for one in analysis.challenges} <= {text.get_text() for text in shown}
    # 368 pixels are left of a window of 400, and 1080 of one of 1300.
    pixels_per_point = (368 if narrow else 1080) / (72 * figure.get_figwidth())
    assert min(text.get_fontsize() for text in shown) * pixels_per_point >= 9
    for text in shown:  # nothing is cut
        box = text.get_window_extent()
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1


@pytest.mark.parametrize(("shift", "text"), [(50.0, "→"), (-50.0, "←")])
def test_arm_far_out_becomes_an_arrow_and_leaves_room_for_the_others(shift, text):
    base = noise(0, 8)
    values = {"base": base.tolist(), "far": (base + shift + 0.1 * noise(9, 8)).tolist()}
    values |= {f"arm{i}": (base + 0.1 * noise(i, 8)).tolist() for i in range(1, 5)}
    analysis = analyse(made_results(values), METHOD)
    axes, _ = draw_gains(analysis, verdicts(analysis), METRIC).axes
    assert axes.get_xlim()[1] < 1
    (label,) = axes.texts
    assert text in label.get_text()
    assert f"{analysis.challenges[0].gain.mean:+.3g}" in label.get_text()


@pytest.mark.parametrize("page", [WIDE, NARROW])
def test_a_long_name_is_cut_and_leaves_room_for_the_gains(page):
    values = {"base": (0.8 + 0.01 * noise(0, 8)).tolist(), "a" * 190: (0.01 * noise(1, 8)).tolist()}
    analysis = analyse(made_results(values), Method(resamples=999))
    figure = draw_gains(analysis, verdicts(analysis), METRIC, page)
    figure.draw_without_rendering()
    box = figure.axes[0].get_position()
    assert box.width > 0.4
    texts = [text.get_text() for text in (*figure.axes[0].get_yticklabels(), *figure.axes[0].texts)]
    assert any(text.startswith("aaa") and text.endswith("...") for text in texts)
