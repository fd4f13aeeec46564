"""The circuit reaches TensorBoard's text and image pages unharmed."""

import warnings

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from lightning_qsgd.tracking import tags, write_circuit
from lightning_qsgd.tracking.pages import code_block

TEXT = "     ┌───┐     \nq_0: ┤ H ├──■──\n     └───┘┌─┴─┐\nq_1: ─────┤ X ├\n          └───┘"


def events_after(folder, *drawing):
    with SummaryWriter(folder) as writer:
        write_circuit(writer, *drawing)
    return EventAccumulator(str(folder)).Reload()


def written_text(events):
    (event,) = events.Tensors(f"{tags.CIRCUIT_TEXT}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def rendered(markdown):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "html5lib's sanitizer is deprecated", DeprecationWarning)
        from tensorboard.plugin_util import markdown_to_safe_html
    return markdown_to_safe_html(markdown)


def small_figure():
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(3, 2), dpi=50)
    figure.subplots().plot([0, 1])
    return figure


def test_text_alone_writes_no_picture(tmp_path):
    events = events_after(tmp_path, TEXT)

    assert written_text(events) == code_block(TEXT)
    assert events.Tags()["images"] == []


def test_tensorboard_renders_the_text_with_every_space_in_place(tmp_path):
    html = rendered(written_text(events_after(tmp_path, TEXT)))

    assert f"<pre><code>{TEXT}\n</code></pre>" in html


def test_the_picture_keeps_its_size(tmp_path):
    events = events_after(tmp_path, TEXT, small_figure())

    (image,) = events.Images(tags.CIRCUIT_PICTURE)
    assert (image.width, image.height, image.step) == (150, 100, 0)


def test_a_figure_of_pyplot_is_closed(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure()
    events_after(tmp_path, TEXT, figure)

    assert figure.number not in pyplot.get_fignums()
