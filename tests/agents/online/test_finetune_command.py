"""The command `crystal-gym finetune`, its options and its error messages."""

import json
import re

import pytest
from online_models import PartlyLabeled, policy_for

from crystal_agents import load_policy
from crystal_agents.cli import main as cli
from crystal_datasets import load_transitions
from crystal_gym.rewards import REWARDS


def test_finetune_writes_a_policy_a_curve_and_a_dataset(
    toy_folder, toy, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    policy_for(toy).save(tmp_path / "cloned")
    line = ["finetune", "./cloned", "--collection", str(toy_folder), "--reward", "validity"]
    line += ["--steps", "5200", "--num-envs", "64", "--run-folder", "run", "--record"]
    assert cli.main(line) == 0
    printed = capsys.readouterr().out
    for word in ("before", "after", "return", "match", "validity", "(SMACT ", "Policy: run"):
        assert word in printed
    replayed = load_transitions(re.search(r"Dataset: (\S+)", printed)[1])
    assert len(replayed) >= 5200 - 64 * toy.max_sites
    assert 0 < replayed.returns.mean() < 1
    rows = (tmp_path / "run" / "curve.csv").read_text().splitlines()
    assert rows[0].split(",")[:3] == ["steps", "episodes", "return"]
    assert {"match", "validity"} <= set(rows[0].split(","))
    assert int(rows[1].split(",")[0]) >= 2560
    evaluate = ["evaluate", "run", "--collection", str(toy_folder), "--json", "--no-baselines"]
    assert cli.main(evaluate) == 0
    assert cli.main([*line[:6], "--record", "--run-folder", "other"]) == 2
    assert "but it exists" in capsys.readouterr().err
    assert cli.main(["finetune", "./cloned"]) == 2
    assert "Name it with --collection" in capsys.readouterr().err


def test_finetune_reports_the_number_of_crystals_without_a_metric(
    toy_folder, toy, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(REWARDS, "partly-labeled", PartlyLabeled)
    policy_for(toy).save(tmp_path / "cloned")
    line = ["finetune", "./cloned", "--collection", str(toy_folder), "--reward", "partly-labeled"]
    line += ["--steps", "100", "--num-envs", "4", "--critic-warm-up", "0", "--run-folder", "run"]
    assert cli.main(line) == 0
    printed = capsys.readouterr().out
    assert re.search(r"label +│ 3\.0000 +│ 3\.0000", printed)
    assert re.search(r"crystals without label +│ 2 +│ 2", printed)


def test_finetuned_policies_record_the_crystals_that_they_were_trained_on(
    tmp_path, monkeypatch, capsys
):
    def call(*line):
        code = cli.main([*line])
        printed = capsys.readouterr()
        return code, printed.out, " ".join(printed.err.split())

    monkeypatch.chdir(tmp_path)
    few_steps = ("--steps", "400", "--num-envs", "16")
    no_warm_up = ("--critic-warm-up", "0")
    evaluate = ("--start-sites", "1", "--no-baselines", "--json")
    scratch = ("finetune", "goldschmidt/egnn", "--from-scratch", *few_steps)
    # Random weights were trained on no crystals, so any split is possible.
    assert call(*scratch, "--split-by", "composition", "--run-folder", "scratch")[0] == 0
    code, out, _ = call("evaluate", "scratch", *evaluate)
    assert (code, json.loads(out)["collection"]) == (0, "goldschmidt-by-composition")
    code, _, err = call("evaluate", "scratch", "--split-by", "origin", *evaluate)
    assert code == 2
    assert "scratch was trained on goldschmidt split by composition" in err
    for policy, other in (("goldschmidt/egnn", "composition"), ("./scratch", "origin")):
        code, _, err = call("finetune", policy, *few_steps, *no_warm_up, "--split-by", other)
        assert code == 2
        assert f"has seen crystals that splits by {other} hold out" in err
    # A further stage is appended, with the splits of the policy's training.
    second = ("finetune", "./scratch", *few_steps, *no_warm_up, "--run-folder", "second")
    assert call(*second)[0] == 0
    stages = load_policy(tmp_path / "second").config.training["finetuning"]
    assert [(stage["policy"], stage["split_by"]) for stage in stages] == [
        ("goldschmidt/egnn", "composition"),
        ("./scratch", "composition"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seed", "-1"), "seed"),
        (("--learning-rate", "-1"), "positive learning rate, got -1"),
        (("--learning-rate", "nan"), "positive learning rate, got nan"),
        (("--steps", "0"), "at least 1 step"),
        (("--num-envs", "0"), "0"),
        (("--anchor", "-1"), "coefficient to be 0 or positive"),
        (("--critic-warm-up", "-1"), "critic_warm_up"),
        (("--steps", "640", "--critic-warm-up", "640"), "more than 640 steps"),
        (("--from-scratch", "--anchor", "0.5"), "--anchor with a warm start"),
        (("--from-scratch", "--critic-warm-up", "9"), "--critic-warm-up with a warm start"),
    ],
)
def test_finetune_rejects_options_out_of_range(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["finetune", "goldschmidt/egnn", *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
