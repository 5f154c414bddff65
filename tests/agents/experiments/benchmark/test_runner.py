"""Runs of a benchmark: one of each kind, stored once and never combined with other results."""

import dataclasses
import sys

import pytest
from small_policies import small_policy

from crystal_agents.cli.main import main
from crystal_agents.experiments.benchmark.config import load_benchmark_config
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.benchmark.results import RESULTS_FILE, load_results, select
from crystal_agents.experiments.benchmark.runner import run_benchmark
from crystal_agents.experiments.results_file import save_records
from crystal_agents.policies.policy import SkeletonPolicy
from crystal_datasets import build_dataset, mixed
from crystal_gym.collections import load_collection
from crystal_gym.errors import (
    CollectionMismatchError,
    CollectionMismatchWarning,
    CrystalGymError,
    DamagedFileError,
    UnknownNameError,
)


def test_runs_are_measured_and_not_repeated(small, folder):
    records = {record.method: record for record in load_results(folder)}
    assert list(run_benchmark(small.only(rewards=["validity-strict"]), folder)) == []
    for record in records.values():
        assert {"return", "match", "validity_strict", "unique", "novel"} <= set(record.metrics)
        assert record.metrics["return"] == pytest.approx(record.metrics["validity_strict"])
        assert record.collection == small.collection
    assert records["bc"].metrics["validity_strict"] > records["uniform"].metrics["validity_strict"]
    # The mask charge-neutral guarantees validity, with or without learning.
    assert records["maskable-ppo"].metrics["validity_strict"] == 1
    for name, record in records.items():
        steps = [step for step, _ in record.curve]
        if METHODS[name].online:
            assert steps == [0, 640, 1_280]
        else:
            assert not steps
    # A warm start begins with the cloned policy, whatever the algorithm, and then changes.
    assert records["dqn-warm"].curve[0] == records["ppo-warm-anchored"].curve[0]
    for name in ("dqn-warm", "ppo-warm-anchored"):
        assert records[name].metrics != records["bc"].metrics


def test_results_with_other_labels_are_rejected(small, folder, tmp_path):
    """Results after a download of more labels need another folder."""
    records = [
        dataclasses.replace(record, labels_sha256="ab" * 32) for record in load_results(folder)
    ]
    save_records(tmp_path / RESULTS_FILE, records)
    with pytest.raises(CrystalGymError, match="'validity-strict' with the present labels"):
        next(run_benchmark(small.only(rewards=["validity-strict"]), tmp_path))


def test_results_on_other_crystals_are_rejected(small, folder, tmp_path):
    records = [
        dataclasses.replace(record, collection_sha256="ab" * 32) for record in load_results(folder)
    ]
    save_records(tmp_path / RESULTS_FILE, records)
    with pytest.raises(CrystalGymError, match="results on other crystals"):
        next(run_benchmark(small.only(rewards=["validity-strict"]), tmp_path))


def test_methods_without_randomness_run_once_for_all_seeds(small, tmp_path):
    config = dataclasses.replace(small, seeds=(0, 1))
    selection = {"rewards": ["match"], "methods": ["most-frequent", "uniform"]}
    runs = [
        (record.method, record.seed)
        for seed in (1, 0)
        for record in run_benchmark(config.only(seeds=[seed], **selection), tmp_path)
    ]
    assert runs == [("most-frequent", 1), ("uniform", 1), ("uniform", 0)]
    selected = select(load_results(tmp_path), config.only(seeds=[0]), tmp_path)
    assert {(record.method, record.seed) for record in selected} == {
        ("most-frequent", 1),
        ("uniform", 0),
    }


def test_first_seed_of_all_methods_and_rewards_runs_first(small, tmp_path):
    config = dataclasses.replace(small, seeds=(1, 0), methods=("most-frequent", "uniform"))
    runs = [(r.seed, r.reward, r.method) for r in run_benchmark(config, tmp_path)]
    assert runs == [
        (1, "match", "most-frequent"),
        (1, "match", "uniform"),
        (1, "validity-strict", "most-frequent"),
        (1, "validity-strict", "uniform"),
        (0, "match", "uniform"),
        (0, "validity-strict", "uniform"),
    ]


def test_missing_requirements_are_reported_before_any_run(small, tmp_path, monkeypatch):
    cifs, out = tmp_path / "cifs", tmp_path / "out"
    cifs.mkdir()
    load_collection("goldschmidt").structure(0).to(str(cifs / "one.cif"))
    monkeypatch.setitem(sys.modules, "torchrl", None)
    config = dataclasses.replace(small, methods=("uniform", "cql"))
    with pytest.raises(ModuleNotFoundError, match="torchrl"):
        list(run_benchmark(config, out))
    with pytest.raises(CrystalGymError, match="got none in val, test"):
        list(run_benchmark(dataclasses.replace(small, collection=str(cifs)), out))
    with pytest.raises(UnknownNameError, match="Unknown method 'a2c'"):
        list(run_benchmark(dataclasses.replace(small, methods=("uniform", "a2c")), out))
    assert not out.exists()


def test_results_of_another_config_are_rejected(small, folder):
    with pytest.raises(CrystalGymError, match="another config, which differs in steps"):
        next(run_benchmark(dataclasses.replace(small, steps=640), folder))
    with pytest.raises(CrystalGymError, match="seeds"):
        next(run_benchmark(small.only(seeds=[7]), folder))
    with pytest.raises(CrystalGymError, match="another config, which differs in collection"):
        select(load_results(folder), dataclasses.replace(small, collection="perov-5"), folder)
    with pytest.raises(UnknownNameError, match="a2c"):
        select(load_results(folder), dataclasses.replace(small, methods=("a2c",)), folder)


@pytest.mark.parametrize("content", ['{"method": 1}', '[{"method": "a2c"}]', '[{"method": "bc"}]'])
def test_damaged_results_are_reported(tmp_path, content):
    (tmp_path / RESULTS_FILE).write_text(content)
    with pytest.raises(DamagedFileError, match="offline learners load their checkpoints"):
        load_results(tmp_path)


def test_command_runs_offline_learners_and_writes_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "elsewhere"))
    folder = ("--folder", str(tmp_path / "out"))
    selection = ("--rewards", "match", "--methods", "uniform", "constant", "bc", "cql")
    assert main(["benchmark", "smoke", *selection, *folder]) == 0
    output = capsys.readouterr().out
    assert "match, cql, seed 0: return" in output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"benchmark.json", "benchmark.md", "curves.png", "minari"} <= written
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "out" / "curves.png").unlink()
    assert main(["benchmark", "smoke", "--report-only", *folder]) == 0
    for unknown in (("--rewards", "nosuch"), ("--seeds", "9"), ("--methods", "a2c")):
        assert main(["benchmark", "smoke", "--report-only", *folder, *unknown]) == 2
    assert main(["benchmark", "perov-5", "--report-only", *folder]) == 2
    assert "another config" in capsys.readouterr().err
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("option", [(), ("--report-only",)])
def test_command_rejects_a_config_with_an_unknown_method(tmp_path, capsys, option):
    config = tmp_path / "config.toml"
    config.write_text(
        'collection = "goldschmidt"\npolicy = "goldschmidt/egnn"\nrewards = ["match"]\n'
        'methods = ["uniform", "a2c"]\nseeds = [0]\nsteps = 5\nnum_envs = 1\nevery = 5\n'
        "curve_crystals = 1\noffline_epochs = 1\noffline_trajectories = 1\n"
    )
    folder = ("--folder", str(tmp_path / "out"))
    assert main(["benchmark", str(config), *folder, *option]) == 2
    assert "Unknown method 'a2c'" in capsys.readouterr().err
    assert not (tmp_path / "out" / RESULTS_FILE).exists()


def test_report_without_results_is_rejected(tmp_path, capsys):
    assert main(["benchmark", "smoke", "--report-only", "--folder", str(tmp_path)]) == 2
    assert "found none" in capsys.readouterr().err


def test_dataset_or_policy_of_other_crystals_is_refused(toy_folder, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    other = dataclasses.replace(toy.take(range(8)), name="toy")
    behavior = mixed(lambda _: None, "unused", mixture_weights=(1, 0, 0))
    build_dataset(other, "train", behavior, progress=False)
    policy = small_policy(toy)
    record = {"collection": "perov-5", "collection_sha256": "ab" * 32}

    def save(record):
        config = dataclasses.replace(policy.config, training=record)
        trained = SkeletonPolicy(config)
        trained.load_state_dict(policy.state_dict())
        return str(trained.save(tmp_path / "policy"))

    config = dataclasses.replace(
        load_benchmark_config("smoke"),
        collection=str(toy_folder),
        policy=save(record),
        rewards=("match",),
        methods=("bc-top",),
    )
    with (
        pytest.warns(CollectionMismatchWarning, match="policy was trained on perov-5"),
        pytest.raises(CollectionMismatchError, match=r"got one built from toy .*minari delete"),
    ):
        list(run_benchmark(config, tmp_path / "results"))
    save(record | {"collection": str(toy_folder)})
    with pytest.raises(CollectionMismatchError, match="have changed since"):
        list(run_benchmark(config, tmp_path / "results"))
