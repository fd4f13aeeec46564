"""The page of custom charts shows each tag for all runs, in a chart of its own."""

import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter

from lightning_qsgd.tracking import comparison_layout, tags, write_layout
from lightning_qsgd.tracking.layout import METRICS, charts_of

MEANS = ["mean over seeds", "mean gap to the baseline"]
CATEGORIES = [*MEANS, "every run", "gap to the baseline", "perturbation size", "cost"]


def all_charts(layout):
    return [chart for category in layout.values() for chart in category.values()]


def shown_by(chart, candidates):
    # TensorBoard's own rule, in `CustomScalarsPlugin.scalars_impl`.
    return [tag for tag in candidates for pattern in chart[1] if re.match(pattern, tag)]


def written_layout(folder):
    events = EventAccumulator(str(folder)).Reload()
    (event,) = events.Tensors("custom_scalars__config__")
    return layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])


def test_the_comparison_comes_first():
    assert list(comparison_layout()) == CATEGORIES


def test_the_charts_of_the_metrics_keep_their_order():
    layout = comparison_layout(["val/f1", "val/loss"])

    assert list(layout["every run"]) == ["val/f1", "val/loss"]
    assert list(layout["gap to the baseline"]) == [
        "val/f1 minus its baseline",
        "val/loss minus its baseline",
    ]


def test_the_gap_has_a_chart_of_its_own_scale():
    layout = comparison_layout(["val/loss"])
    everything = ["val/loss", tags.gap_tag("val/loss")]

    assert shown_by(layout["every run"]["val/loss"], everything) == ["val/loss"]
    assert (
        shown_by(layout["gap to the baseline"]["val/loss minus its baseline"], everything)
        == everything[1:]
    )


def test_every_chart_shows_exactly_one_tag():
    perturbation = [value for value in vars(tags).values() if str(value).startswith("pert")]
    derived = (str, tags.gap_tag, tags.mean_tag, tags.mean_gap_tag)
    expected = [*(make(metric) for make in derived for metric in METRICS), *perturbation]
    longer = [f"{tag}_epoch" for tag in expected]

    shown = [shown_by(chart, expected + longer) for chart in all_charts(comparison_layout())]

    assert sorted(shown) == sorted([tag] for tag in expected)


@pytest.mark.parametrize("metric", ["val/top-5 (%)", "val/a.b", "val/c++", "val/[x]"])
def test_a_tag_is_never_read_as_a_pattern(metric):
    chart = comparison_layout([metric])["every run"][metric]

    assert shown_by(chart, [metric, "val/axb", "val/x"]) == [metric]


def test_what_is_measured_of_one_of_several_optimizers_has_a_chart():
    layout = charts_of(comparison_layout(), [f"{tags.COSINE}/0", f"{tags.COSINE}/1"])

    assert layout == {
        "perturbation size": {
            "cosine with the base step": ["Multiline", [r"^perturbation/cosine(/\d+)?$"]]
        }
    }


def test_a_run_brings_the_charts_that_it_fills():
    layout = comparison_layout(["val/loss", "train/loss"])
    means = charts_of(layout, ["mean/val/loss", "mean_gap/train/loss"])

    assert {category: list(charts) for category, charts in means.items()} == {
        "mean over seeds": ["val/loss"],
        "mean gap to the baseline": ["train/loss minus the baseline"],
    }
    assert list(charts_of(layout, ["val/loss"])) == ["every run"]
    assert charts_of(layout, []) == {}


def test_the_written_layout_is_that_of_the_tags_that_are_shown(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        write_layout(writer, ["val/loss", "val/accuracy"], ["val/loss", tags.gap_tag("val/loss")])

    written = {
        category.title: {
            chart.title: ["Multiline", list(chart.multiline.tag)] for chart in category.chart
        }
        for category in written_layout(tmp_path).category
    }
    assert written == {
        "every run": {"val/loss": ["Multiline", ["^val/loss$"]]},
        "gap to the baseline": {
            "val/loss minus its baseline": ["Multiline", ["^baseline/gap_val/loss$"]]
        },
    }


def test_a_single_string_is_refused():
    with pytest.raises(TypeError, match=r"sequence of tags, got the string 'val/loss'.*Pass \["):
        comparison_layout("val/loss")


def test_a_comparison_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"at least one tag, got none.*Pass a tag"):
        comparison_layout([])
