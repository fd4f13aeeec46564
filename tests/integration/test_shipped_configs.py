"""Shipped configs are found by name, listed and copied, from any folder."""

import re
import zipfile
from pathlib import Path

import pytest
import yaml

from lightning_qsgd.cli.configs_command import (
    find_shipped,
    first_comment,
    shipped_configs,
    with_shipped_configs,
)
from lightning_qsgd.cli.main import main

NAMES = dict(shipped_configs())


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_every_config_is_found_by_its_name_and_says_what_it_is(name):
    assert find_shipped(name) == NAMES[name]
    assert find_shipped(f"../{name}.yaml") == NAMES[name]
    assert len(first_comment(NAMES[name])) > 1


@pytest.mark.parametrize("option", ["--config", "-c", "--arm"])
def test_a_name_becomes_a_path_in_both_spellings(option):
    path = str(NAMES["experiments/digits"])

    assert with_shipped_configs(["fit", option, "digits"]) == ["fit", option, path]
    assert with_shipped_configs(["fit", f"{option}=digits"]) == ["fit", f"{option}={path}"]


def test_compare_looks_among_the_comparisons_first():
    assert with_shipped_configs(["compare", "--config", "digits"])[-1] == str(
        NAMES["compare/digits"]
    )


def test_a_file_of_the_user_comes_before_a_shipped_config():
    Path("digits").write_text("{}")

    assert with_shipped_configs(["fit", "--config", "digits"])[-1] == "digits"


def test_a_folder_of_that_name_hides_no_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert Path(with_shipped_configs(["fit", "--config", "digits"])[-1]).is_file()


@pytest.mark.parametrize("option", [["--arm", "torch.optim.NAdam"], ["--arm=my_optimizers.Mine"]])
def test_the_class_path_of_an_arm_stays(option):
    assert with_shipped_configs(["compare", *option]) == ["compare", *option]


def test_a_misspelt_config_of_an_arm_ends_with_the_nearest_one():
    for name in ("nugde", "arms/nugde.yaml"):
        with pytest.raises(FileNotFoundError, match="Did you mean"):
            with_shipped_configs(["compare", "--arm", name])


@pytest.mark.parametrize("text", ["{a: 1}", "a: 1\nb: 2", "", "https://example.org/a.yaml"])
def test_the_text_of_a_config_is_left_to_the_parser(text):
    assert with_shipped_configs(["fit", "--config", text])[-1] == text


@pytest.mark.parametrize("name", ["digitz", "arms/nugde", "configs/experiments/digts.yaml"])
def test_an_unknown_name_ends_with_the_nearest_one(name, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--config", name])
    error = capsys.readouterr().err

    assert f"There is no file {name}, and no shipped config has that name. Did you mean" in error
    assert "lightning-qsgd configs" in error


def test_a_name_works_in_fit(capsys):
    main(["fit", "--config", "digits", "--config", "arms/sine_0.5", "--trainer.fast_dev_run=1"])

    assert not Path("runs").exists()


def test_experiment_and_overlays_of_a_copied_comparison_are_found_by_name(capsys):
    main(["configs", "copy", "compare/digits", "mine"])
    plan = yaml.safe_load(Path("mine/digits.yaml").read_text())
    plan["arms"] = {name: plan["arms"][name] for name in ("adamw_tuned", "sine_0.5")}
    plan["arms"]["adamw_tuned"]["hyperparameters"] = "given"
    plan |= {"experiment": "digits", "seeds": 6, "tuning": None, "budget": {"max_steps": 2}}
    plan["arms"]["sine_0.5"] = {"overlay": "arms/sine_0.5"}
    Path("mine/digits.yaml").write_text(yaml.safe_dump(plan))

    main(["compare", "--config", "mine/digits.yaml", "--dry_run"])

    assert "sine_0.5" in capsys.readouterr().out


def test_the_list_names_each_config_with_its_first_sentence(capsys):
    main(["configs"])
    out = capsys.readouterr().out

    assert all(name in out for name in NAMES)
    assert "scikit-learn's" in out


def test_copying_never_overwrites(capsys):
    main(["configs", "copy", "digits", "mine"])
    Path("mine/digits.yaml").write_text("changed")

    with pytest.raises(SystemExit, match="2"):
        main(["configs", "copy", "digits", "mine"])
    assert "exists already" in capsys.readouterr().err
    assert Path("mine/digits.yaml").read_text() == "changed"


def test_the_command_that_uses_a_copy_can_be_pasted(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")

    main(["configs", "copy", "digits", "a folder of mine"])

    assert "fit --config 'a folder of mine/digits.yaml'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("digits", "fit --config"),
        ("compare/digits", "compare --config"),
        ("suites/small", "compare --config"),
        ("arms/sine_0.5", "fit --config digits --config"),
        ("bases/adamw", "fit --config digits --config"),
        ("arms/zoo/lion", "fit --config digits --config"),
        ("arms/quantum_attention", "fit --config sequences --config"),
    ],
)
def test_the_command_that_uses_a_copy_has_all_that_it_needs(capsys, name, command):
    main(["configs", "copy", name, "mine"])

    said = capsys.readouterr().out.strip()
    assert said.endswith(f"lightning-qsgd {command} mine/{name.rpartition('/')[2]}.yaml")


def test_the_wheel_brings_the_configs_and_a_readme_whose_links_work_elsewhere(tmp_path):
    build = pytest.importorskip("hatchling.builders.wheel")
    root = Path(__file__).parents[2]

    wheel = next(build.WheelBuilder(str(root)).build(directory=str(tmp_path / "dist")))
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        (metadata,) = (name for name in inside if name.endswith(".dist-info/METADATA"))
        page = archive.read(metadata).decode()

    assert {f"lightning_qsgd/configs/{name}.yaml" for name in NAMES} <= inside
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) > 10
    assert all(link.startswith(("https://", "#")) for link in links), links
    assert "/raw/main/docs/pictures/demo.svg)" in page
    assert "/blob/main/docs/faq.md)" in page


@pytest.mark.parametrize("folder", ["file", "file/inside"])
def test_a_config_is_not_copied_where_a_part_of_the_path_is_a_file(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    with pytest.raises(SystemExit):
        main(["configs", "copy", "digits", folder])
    said = " ".join(capsys.readouterr().err.split())
    assert f"Cannot copy digits.yaml to the folder '{folder}': a part of this path is a" in said
    assert "Name another folder, where you may write" in said
    assert Path("file").read_text() == "mine"
