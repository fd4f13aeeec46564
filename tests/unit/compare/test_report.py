"""The report: that it says what the statistics say, escapes what others wrote, and stands alone."""

import csv
import io
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec

import pytest
from rich.console import Console

from lightning_qsgd.compare import (
    Arm,
    FailedRun,
    Provenance,
    analyse,
    load_results,
    save_results,
    verdicts,
)
from lightning_qsgd.compare.report import pictures as pictures_file
from lightning_qsgd.compare.report import summary_table
from lightning_qsgd.tracking import tags
from tests.comparison_cases import (
    METHOD,
    METRIC,
    SEEDS,
    around,
    case,
    made_curve,
    made_results,
    written,
)

NASTY = "</pre><script>alert('x')</script> | `a` **b**"
VOID = {"meta", "img", "source", "br"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    html, markdown = written(case(), folder)
    return folder, html, markdown


class Tags(HTMLParser):
    """Fails at the first tag that is closed out of turn."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(html):
    tags_of_page = Tags()
    tags_of_page.feed(html)
    assert tags_of_page.open == []
    return tags_of_page.seen


def test_page_is_well_formed_and_fetches_nothing(report):
    _, html, _ = report
    sources = [attrs["src"] for tag, attrs in parsed(html) if "src" in attrs]
    assert len(sources) == 7
    narrow = [attrs["srcset"] for tag, attrs in parsed(html) if tag == "source"]
    assert len(narrow) == 7
    sources += narrow
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert not re.search(r"https?://|@import|url\(|<link|<script", html)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="draws")
def test_a_pillow_without_webp_gives_pages_with_png(tmp_path, monkeypatch):
    from PIL import features

    monkeypatch.setattr(features, "check", lambda name: name != "webp")
    values = {"base": around(0.8, 0), "arm": around(0.8, 1)}

    html, _ = written(made_results(values), tmp_path)

    shown = [
        attrs[name] for _, attrs in parsed(html) for name in ("src", "srcset") if name in attrs
    ]
    assert shown
    for address in shown:
        assert b64decode(address.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_pictures_are_files_beside_the_report_and_linked_from_markdown(report):
    folder, html, markdown = report
    names = {"gains", "twins", "metric", "gap", "loss", "target", "size"}
    assert {path.stem for path in folder.glob("*.png")} == names
    for name in names:
        assert f"]({name}.png)" in markdown
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert all(attrs["alt"] for tag, attrs in parsed(html) if tag == "img")


def test_answer_comes_first_and_names_every_arm_under_its_verdict(report):
    _, html, markdown = report
    first = markdown.split("## Verdict for every arm")[0]
    assert first.startswith("# made: what helps over base?\n\n> **Yes, 1 of 4 arms** did better")
    assert "- **Better** than `base`, and than their own controls" in first
    assert "have any: `better`." in first
    assert "- **Worse** than `base`: `worse`." in first
    assert "would have shown): `equal`." in first
    assert "without the ingredient on trial: `matched`." in first
    assert "trained for 300 steps in 6 ways" in first
    assert "(higher is better). The target is val/accuracy = 0.75." in first
    assert "Yes, 1 of 4 arms" in html


def test_verdicts_of_all_arms_are_in_both_reports_and_in_the_terminal(report):
    _, html, markdown = report
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary_table(case(), METHOD))
    terminal = console.export_text()
    for name, verdict in verdicts(analyse(case(), METHOD)).items():
        assert f"| {name} | " in markdown
        assert f"{verdict.outcome} | {verdict.reason}" in markdown
        assert f"{verdict.outcome}</span>" in html
        assert re.search(rf"{name} .*{verdict.outcome}", terminal)
    said = " ".join(terminal.split())
    assert "Yes, 1 of 4 arms did better than base. Arm by arm: better: better; matched:" in said
    assert re.search(
        r"With 12 seeds, a true gain of 0\.0\d+ to 0\.0\d+, depending on the arm", said
    )


def test_a_narrow_terminal_folds_words_and_cuts_none():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table(case(), METHOD))
    terminal = console.export_text()
    assert "…" not in terminal
    assert max(map(len, terminal.splitlines())) <= 80


@pytest.mark.parametrize("width", [30, 40, 60])
def test_a_narrower_terminal_drops_columns_and_cuts_no_verdict(width):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(summary_table(case(), METHOD))
    terminal = console.export_text()
    assert "\N{HORIZONTAL ELLIPSIS}" not in terminal
    assert max(map(len, terminal.splitlines())) <= width
    for word in ("better", "worse", "matched by", "its own", "control", "verdict"):
        assert word in terminal
    assert ("gain" in terminal.split("better")[0]) == (width >= 40)
    assert "mean" not in terminal.split("better")[0]


def test_script_of_the_report_recomputes_the_numbers_from_the_table(
    report, tmp_path, monkeypatch, capsys
):
    _, _, markdown = report
    save_results(case(), tmp_path)
    monkeypatch.chdir(tmp_path)
    script = re.search(r"again, in Python\*\*\n\n```\n(.*?)```", markdown, re.DOTALL).group(1)
    exec(script, {})
    found = [float(x) for x in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", capsys.readouterr().out)]
    gain = analyse(case(), METHOD).challenges[0].gain
    expected = [gain.mean, gain.t.low, gain.t.high, gain.bca.low, gain.bca.high, gain.effect]
    assert found == pytest.approx([*expected, gain.improvement], rel=1e-6)


def test_means_and_costs_of_the_arms_follow_from_the_tables(report, tmp_path):
    _, _, markdown = report
    save_results(case(), tmp_path)
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    own_section = markdown.split("## Every arm on its own")[1]
    for arm in ("base", "matched"):
        own = [row for row in rows if row["arm"] == arm]
        values = sorted(float(row[METRIC]) for row in own)
        steps = sorted(float(row["steps_to_target"]) for row in own)
        mean, median = sum(values) / SEEDS, sum(values[SEEDS // 2 - 1 : SEEDS // 2 + 1]) / 2
        line = next(x for x in own_section.splitlines() if x.startswith(f"| {arm} | "))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[2] == f"{mean:.4g}"
        assert cells[4] == f"{median:.4g}"
        assert cells[6] == f"{steps[3]:.4g}"
        assert cells[9] == "1.2"
        assert cells[10] == "x 1"


def test_report_of_stored_results_is_the_same_to_the_last_byte(report, tmp_path):
    folder, html, markdown = report
    save_results(case(), tmp_path)
    assert written(load_results(tmp_path), tmp_path) == (html, markdown)
    for picture in folder.glob("*.png"):
        assert (tmp_path / picture.name).read_bytes() == picture.read_bytes()


def test_what_others_wrote_cannot_become_tags_or_columns(without_matplotlib, tmp_path):
    arms = (Arm("base", "baseline"), Arm("a<b>|c", description=NASTY, overlay=NASTY))
    values = {"base": around(0.8, 0), "a<b>|c": [*around(0.8, 1)[:-1], None]}
    failure = FailedRun("a<b>|c", SEEDS - 1, NASTY + "\n```")
    provenance = Provenance(NASTY, NASTY, {NASTY: NASTY}, NASTY, NASTY, NASTY)
    results = made_results(values, arms, failures=(failure,), provenance=provenance)
    html, markdown = written(results, tmp_path)
    assert {tag for tag, _ in parsed(html)}.isdisjoint({"script", "b"})
    table = markdown.split("## Verdict for every arm")[1].split("##")[0].strip().splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {6}
    outside = re.sub(r"(`{3,})\n.*?\n\1\n", "", markdown, flags=re.DOTALL)
    assert "<script" not in outside


def test_origin_is_complete(report):
    _, _, markdown = report
    for fact in ("`lightning-qsgd compare`", "abc123", "torch 2", "0, 1, 2, 3, 4, 5, 6, 7"):
        assert fact in markdown
    assert "**The whole configuration**\n\n```\na: 1\n```" in markdown
    assert "# matched\nlr: 0.1" in markdown


def test_without_matplotlib_the_report_says_what_is_missing(without_matplotlib, tmp_path):
    html, markdown = written(case(), tmp_path)
    assert "**Pictures are missing** because matplotlib was not installed." in markdown
    assert "<img" not in html
    assert not list(tmp_path.glob("*.png"))
    with pytest.raises(ModuleNotFoundError, match=r"Run `pip install 'lightning-qsgd\[plot\]'`"):
        pictures_file.pictures(case(), analyse(case(), METHOD), {})


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="draws")
@pytest.mark.parametrize("value", [None, float("nan")])
def test_runs_that_all_failed_or_diverged_still_give_a_report(tmp_path, value):
    results = made_results({"base": [0.5, 0.6, value], "arm": [value] * 3}, target=0.5)
    curves = {METRIC: made_curve([float("nan")] * 3), tags.RELATIVE_SIZE: made_curve([0.0])}
    runs = tuple(replace(run, curves=curves) if run.arm == "arm" else run for run in results.runs)
    html, markdown = written(replace(results, runs=runs), tmp_path)
    parsed(html)
    assert "**No claim possible**, for the reason in the table: `arm`." in markdown


def test_arm_names_cannot_style_the_terminal():
    console = Console(width=200, record=True, file=io.StringIO())
    values = {"[red]base": [1, 2, 3], "[b]arm": [1, 2, 4]}
    console.print(summary_table(made_results(values), METHOD))
    assert "[red]base" in console.export_text()


def test_names_of_experiment_and_metric_cannot_style_the_terminal():
    console = Console(width=200, record=True, file=io.StringIO())
    results = made_results({"base": [1, 2, 3], "arm": [1, 2, 4]})
    named = replace(results.comparison, name="my [/x] exp [red]")
    console.print(summary_table(replace(results, comparison=named), METHOD))
    assert "my [/x] exp [red], val/accuracy" in console.export_text()


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="draws")
def test_page_of_twenty_arms_shows_gains_first_and_folds_its_tables(tmp_path):
    values = {"base": around(0.8, 0)} | {f"arm{i}": around(0.8, i + 1) for i in range(20)}
    html, markdown = written(made_results(values), tmp_path)
    assert html.index("<figure>") < html.index("What was compared")
    assert html[: html.index("<figure>")].count("<p") == 1  # the answer
    assert html.count("<details><summary>The numbers of 20 arms") == 1
    assert markdown.index("![Gain of every arm") < markdown.index("- **No detectable effect**")
