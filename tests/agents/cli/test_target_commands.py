"""Commands on conditional policies: requests in the form LABEL=VALUE, and their errors."""

import pytest

from crystal_agents.cli.target_values import parse_targets
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
