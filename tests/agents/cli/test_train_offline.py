"""The command train-offline."""

import dataclasses
import json
import sys

import pytest
from training_runs import SMALL_CQL_SETTINGS

from crystal_agents import load_policy
from crystal_agents.training.recipes import RECIPES

# torchrl warns when it is imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("minari_folder", "small_recipe"),
]
TRAIN = ("train-offline", "goldschmidt", "--accelerator", "cpu")


@pytest.fixture
def small_recipe(monkeypatch):
    recipe = dataclasses.replace(RECIPES["egnn"], settings=SMALL_CQL_SETTINGS, epochs=1)
    monkeypatch.setitem(RECIPES, "egnn", recipe)


def test_trained_policies_can_be_evaluated(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ("--behavior", "random", "--reward", "validity")
    build = ("build-dataset", "goldschmidt", "--splits", "train", "--trajectories", 1, *data)
    assert run(*build)[0] == 0
    code, out, _ = run(*TRAIN, *data, "--epochs", 1)
    assert code == 0
    assert out.count("greedy policy on val") == 1
    code, out, _ = run(*TRAIN, *data, "--epochs", 1, "--algorithm", "bc", "--top-fraction", 0.1)
    assert code == 0
    assert "cloned episodes: 1.0000" in out
    assert out.count("greedy policy on val") == 1
    cql = "runs/goldschmidt-random-validity-cql-egnn-seed-0"
    bc = "runs/goldschmidt-random-validity-bc-top-0.1-egnn-seed-0"
    assert load_policy(bc).config.training["top_fraction"] == 0.1
    code, out, _ = run("evaluate", cql, "--split", "val", "--start-sites", 1, "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    assert 0 <= rows["egnn"]["metrics"]["validity_smact14"]["mean"] <= 1


@pytest.mark.parametrize(
    ("behavior", "message"),
    [
        ("replay", "finetune POLICY --collection goldschmidt --reward match --record"),
        (
            "mixed",
            "build-dataset goldschmidt --behavior mixed --reward match --splits train --policy",
        ),
    ],
)
def test_the_command_that_builds_a_missing_dataset_is_reported(run, behavior, message):
    code, _, err = run(*TRAIN, "--behavior", behavior, "--split-by", "composition")
    assert code == 2
    err = " ".join(err.split())
    assert message in err
    assert "--split-by composition` first" in err


def test_an_unknown_behavior_policy_is_rejected(run):
    code, _, err = run(*TRAIN, "--behavior", "nosuch", "--split-by", "composition")
    assert code == 2
    assert "Unknown behavior policy 'nosuch'" in " ".join(err.split())


def test_options_of_the_other_algorithm_are_rejected(run):
    code, _, err = run(*TRAIN, "--top-fraction", 0.5)
    assert code == 2
    assert "--algorithm bc" in err
    code, _, err = run(*TRAIN, "--algorithm", "bc", "--alpha", 1)
    assert code == 2
    assert "--algorithm cql" in err


def test_missing_torchrl_is_reported(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchrl", None)
    code, _, err = run(*TRAIN)
    assert code == 1
    assert "pip install 'crystal-gym[offline]'" in err
