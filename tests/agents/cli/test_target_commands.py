"""Commands on conditional policies: requests in the form LABEL=VALUE, and their errors."""

import csv
import dataclasses
import json

import pytest
from small_policies import SETTINGS

from crystal_agents import load_policy
from crystal_agents.cli.target_values import parse_targets
from crystal_agents.training.recipes import RECIPES
from crystal_gym.errors import CrystalGymError


def test_requests_are_parsed_by_label():
    assert parse_targets(["heat_all=-0.2", "ind_gap=1.5"]) == {"heat_all": -0.2, "ind_gap": 1.5}
    assert parse_targets([]) is None


@pytest.mark.parametrize(
    "arguments", [["heat_all"], ["=1"], ["heat_all=low"], ["a=1", "a=2"], ["heat_all=nan"]]
)
def test_other_forms_are_errors(arguments):
    with pytest.raises(CrystalGymError, match="Expected each label of --target once"):
        parse_targets(arguments)


def test_unconditional_policies_reject_requests(run):
    for command in (
        ("evaluate-targets", "goldschmidt/egnn", "--split", "val"),
        ("evaluate", "goldschmidt/egnn", "--split", "val", "--target", "heat_all=1"),
        ("finetune", "goldschmidt/egnn", "--target", "heat_all=1"),
    ):
        code, out, err = run(*command)
        assert (code, out) == (2, "")
        assert "Expected a conditional policy" in " ".join(err.split())


@pytest.mark.usefixtures("minari_folder")
def test_training_needs_labels_of_the_collection(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build = ("build-dataset", "goldschmidt", "--trajectories", 1, "--splits", "train")
    assert run(*build)[0] == 0
    code, _, err = run("train", "goldschmidt", "--target", "heat_all", "--accelerator", "cpu")
    assert code == 2
    assert "heat_all" in err


@pytest.fixture
def labeled_folder(perovskites, tmp_path):
    """Return the perovskites with a label from 0 to 0.9 in each split."""
    folder = tmp_path / "labeled"
    folder.mkdir()
    for file in perovskites.glob("*.csv"):
        with file.open(newline="") as source, (folder / file.name).open("w", newline="") as copy:
            (header, *rows), writer = csv.reader(source), csv.writer(copy)
            writer.writerow([*header, "heat_all"])
            writer.writerows([*row, index / 10] for index, row in enumerate(rows))
    return folder


@pytest.mark.usefixtures("minari_folder")
def test_conditional_policies_from_training_to_evaluation(
    run, labeled_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    recipe = dataclasses.replace(RECIPES["egnn"], settings=SETTINGS, epochs=1)
    monkeypatch.setitem(RECIPES, "egnn", recipe)
    build = ("build-dataset", labeled_folder, "--trajectories", 1, "--splits")
    assert run(*build, "train", "val")[0] == 0
    train = ("train", labeled_folder, "--trajectories", 1, "--accelerator", "cpu")
    assert run(*train, "--target", "heat_all")[0] == 0
    folder = "runs/labeled-egnn-heat_all-seed-0"
    targets = load_policy(folder).targets
    assert (targets.names, targets.low, targets.high) == (("heat_all",), (0.0,), (0.9,))
    report = ("evaluate-targets", folder, "--split", "val", "--values", 0.1, 0.8, "--guidance", 1)
    code, out, _ = run(*report, "--design-space", "--folder", "report")
    assert code == 0
    assert "Correlation of asked and measured" in out
    rows = json.loads((tmp_path / "report" / "targets.json").read_text())["rows"]
    assert [row["asked"] for row in rows] == [None, 0.1, 0.8]
    code, _, err = run("finetune", folder, "--target", "heat_all=2")
    assert code == 2
    message = "Expected heat_all from 0 to 0.9, the range of the training labels, got 2."
    assert message in " ".join(err.split())
    code, _, err = run("finetune", folder)
    assert code == 2
    assert "Expected a target for a conditional policy" in " ".join(err.split())
