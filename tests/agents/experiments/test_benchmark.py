"""The benchmark: its statistics, its plans, and a run of every kind."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystal_agents.cli.main import main
from crystal_agents.evaluation.statistics import aggregate, interquartile_mean
from crystal_agents.experiments.benchmark.config import BenchmarkConfig, load_benchmark_config
from crystal_agents.experiments.benchmark.methods import METHODS
from crystal_agents.experiments.benchmark.report import build_table
from crystal_agents.experiments.benchmark.results import RESULTS_FILE, load_results, select
from crystal_agents.experiments.benchmark.runner import run_benchmark
from crystal_agents.experiments.results_file import save_records
from crystal_gym.collections import load_collection
from crystal_gym.errors import CrystalGymError, DamagedFileError, UnknownNameError


@pytest.mark.parametrize(
    ("values", "mean"),
    # Of n values a quarter, rounded down, is left out at each end.
    [([1, 2, 3, 4, 100], 3), ([0, 10, 20, 30], 15), ([7], 7), ([0, 0, 1, 1, 1, 1, 9, 9], 1)],
)
def test_interquartile_means(values, mean):
    assert interquartile_mean(np.array(values, float)) == pytest.approx(mean)


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=2, max_size=6), min_size=1, max_size=3),
    st.floats(-3, 3),
)
def test_the_interval_holds_the_mean_and_moves_with_the_scores(strata, shift):
    strata = [np.array(stratum) for stratum in strata]
    one = aggregate(strata)
    other = aggregate([stratum + shift for stratum in strata])
    assert one.low - 1e-9 <= one.mean <= one.high + 1e-9
    moved = [one.mean + shift, one.low + shift, one.high + shift]
    np.testing.assert_allclose([other.mean, other.low, other.high], moved, atol=1e-6)


def test_resamples_keep_every_stratum():
    # Drawn from all runs alike, the mean of two distant tasks would vary by far more.
    far = aggregate([np.array([0.0, 0.1] * 3), np.array([100.0, 100.1] * 3)])
    assert far.high - far.low < 0.2


def test_every_plan_that_is_shipped_can_be_loaded():
    config = load_benchmark_config("perov-5")
    assert set(config.methods) == set(METHODS)
    assert len(config.seeds) == 5
    assert load_benchmark_config("smoke").steps < config.steps


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rewards": ["wealth"]}, "wealth"),
        ({"methods": ["a2c"]}, "a2c"),
        ({"steps": 0}, "steps of a plan: a whole number from 1, not 0"),
        ({"steps": "a"}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"offline_trajectories": True}, "offline_trajectories"),
        ({"rewards": []}, "rewards of a plan: a list of at least one"),
        ({"rewards": [1]}, "Unknown reward '1'"),
        ({"methods": "bc"}, "methods"),
        ({"methods": ["bc", "bc"]}, "none of them twice"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [-1]}, "seeds of a plan: whole numbers from 0"),
        ({"seeds": ["a"]}, "seeds"),
        ({"collection": 5}, "collection of a plan: a text"),
        ({"color": "red"}, "color"),
    ],
)
def test_plans_that_cannot_be_are_refused(tmp_path, change, told):
    raw = json.loads(json.dumps(dataclasses.asdict(load_benchmark_config("smoke")))) | change
    path = tmp_path / "plan.toml"
    # JSON's numbers, texts and lists are TOML's.
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in raw.items()))
    with pytest.raises(CrystalGymError, match=told):
        load_benchmark_config(path)


def test_an_unknown_plan_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="smoke"):
        load_benchmark_config("perov5")


@pytest.fixture(scope="module")
def small() -> BenchmarkConfig:
    methods = (
        "uniform",
        "most-frequent",
        "bc",
        "maskable-ppo",
        "ppo-warm-anchored",
        "dqn-warm",
    )
    return dataclasses.replace(load_benchmark_config("smoke"), methods=methods)


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    made = list(run_benchmark(small.only(rewards=["validity-strict"]), folder))
    assert len(made) == len(small.methods)
    return folder


def test_runs_are_measured_and_not_repeated(small, folder):
    records = {record.method: record for record in load_results(folder)}
    assert list(run_benchmark(small.only(rewards=["validity-strict"]), folder)) == []
    for record in records.values():
        assert {"return", "match", "validity_strict", "unique", "novel"} <= set(record.metrics)
        assert record.metrics["return"] == pytest.approx(record.metrics["validity_strict"])
    assert records["bc"].metrics["validity_strict"] > records["uniform"].metrics["validity_strict"]
    # Whoever keeps to the mask ends valid, learned or not.
    assert records["maskable-ppo"].metrics["validity_strict"] == 1
    for name, record in records.items():
        steps = [step for step, _ in record.curve]
        if METHODS[name].online:
            assert steps == [0, 2_560, 5_120]
        else:
            assert not steps
    # A warm start begins as the cloned policy, whatever the algorithm, and does not stay it.
    assert records["dqn-warm"].curve[0] == records["ppo-warm-anchored"].curve[0]
    for name in ("dqn-warm", "ppo-warm-anchored"):
        assert records[name].metrics != records["bc"].metrics


def test_the_table_has_a_line_for_every_contestant(small, folder):
    (table,) = build_table(load_results(folder))
    assert [row[0] for row in table.rows] == [
        METHODS[name].title for name in METHODS if name in small.methods
    ]
    text = table.markdown()
    assert "validity-strict on goldschmidt" in text
    assert "steps to BC" in text


def test_the_steps_to_the_end_of_a_start_from_scratch_are_told(folder):
    warm = next(r for r in load_results(folder) if r.method == "dqn-warm")
    warm = dataclasses.replace(warm, curve=[(0, 0.5), (160, 0.6), (320, 0.9)])
    runs = [
        dataclasses.replace(warm, method="dqn", seed=seed, curve=[(0, 0.0), (320, end)])
        for seed, end in enumerate((0.55, 0.6, 0.65))
    ]
    (table,) = build_table([warm, *runs])
    by_title = {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    assert by_title["DQN, warm start"]["to scratch"] == "160"
    assert by_title["DQN from scratch"]["to scratch"] == ""


def test_rewards_are_brought_together_on_one_scale(small, folder):
    records = load_results(folder)
    other = [dataclasses.replace(record, reward="match") for record in records]
    together = build_table([*records, *other])[-1]
    scale = {row[0]: row[1] for row in together.rows}
    assert scale["uniform"].startswith("0.000")
    assert scale["BC"].startswith("1.000")


def test_rewards_on_which_cloning_is_not_above_chance_are_left_out_of_the_scale(folder):
    def turned(record):
        value = -record.metrics["return"]
        return dataclasses.replace(
            record, reward="turned", metrics=record.metrics | {"return": value}
        )

    records = load_results(folder)
    other = [dataclasses.replace(record, reward="match") for record in records]
    strange = [turned(record) for record in records]
    both = [*records, *other]
    whole, without = (build_table(some)[-1] for some in (both, [*both, *strange]))
    assert without.rows == whole.rows
    assert without.notes[-1] == "Left out, for BC is not above uniform: turned."
    # Of one reward there is no table of all.
    assert len(build_table([*records, *strange])) == 2


def test_results_with_other_labels_are_not_mixed_in(small, folder, tmp_path):
    """Whoever fetches more labels later begins another folder."""
    before = [dataclasses.replace(one, labels_sha256="ab" * 32) for one in load_results(folder)]
    save_records(tmp_path / RESULTS_FILE, before)
    with pytest.raises(CrystalGymError, match="'validity-strict' with other labels"):
        next(run_benchmark(small.only(rewards=["validity-strict"]), tmp_path))


def test_what_draws_nothing_runs_once_whatever_the_seeds(small, tmp_path):
    config = dataclasses.replace(small, seeds=(0, 1))
    some = {"rewards": ["match"], "methods": ["most-frequent", "uniform"]}
    made = [
        (record.method, record.seed)
        for seed in (1, 0)
        for record in run_benchmark(config.only(seeds=[seed], **some), tmp_path)
    ]
    assert made == [("most-frequent", 1), ("uniform", 1), ("uniform", 0)]
    drawn = select(load_results(tmp_path), config.only(seeds=[0]), tmp_path)
    assert {(record.method, record.seed) for record in drawn} == {
        ("most-frequent", 1),
        ("uniform", 0),
    }


def test_what_is_missing_is_told_before_any_run(small, tmp_path, monkeypatch):
    cifs, out = tmp_path / "cifs", tmp_path / "out"
    cifs.mkdir()
    load_collection("goldschmidt").structure(0).to(str(cifs / "one.cif"))
    monkeypatch.setitem(sys.modules, "torchrl", None)
    config = dataclasses.replace(small, methods=("uniform", "cql"))
    with pytest.raises(ModuleNotFoundError, match="torchrl"):
        list(run_benchmark(config, out))
    with pytest.raises(CrystalGymError, match="no crystals in val, test"):
        list(run_benchmark(dataclasses.replace(small, collection=str(cifs)), out))
    assert not out.exists()


def test_results_of_another_plan_are_not_mixed_in(small, folder):
    with pytest.raises(CrystalGymError, match="another plan"):
        next(run_benchmark(dataclasses.replace(small, steps=640), folder))
    with pytest.raises(CrystalGymError, match="seeds"):
        next(run_benchmark(small.only(seeds=[7]), folder))


def test_damaged_results_are_told(tmp_path):
    (tmp_path / RESULTS_FILE).write_text('{"method": 1}')
    with pytest.raises(DamagedFileError, match="online learners then learn anew"):
        load_results(tmp_path)


def test_the_command_runs_offline_learners_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "elsewhere"))
    where = ("--folder", str(tmp_path / "out"))
    few = ("--rewards", "match", "--methods", "uniform", "constant", "bc", "cql")
    assert main(["benchmark", "smoke", *few, *where]) == 0
    shown = capsys.readouterr().out
    assert "match, cql, seed 0: return" in shown
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"benchmark.json", "benchmark.md", "curves.png", "minari"} <= written
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "out" / "curves.png").unlink()
    assert main(["benchmark", "smoke", "--report-only", *where]) == 0
    for strange in (("--rewards", "nosuch"), ("--seeds", "9")):
        assert main(["benchmark", "smoke", "--report-only", *where, *strange]) == 2
    assert main(["benchmark", "perov-5", "--report-only", *where]) == 2
    assert "another plan" in capsys.readouterr().err
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_documents_show_the_committed_runs():
    """The rows that the records give stand in the document under their headings, and no others."""
    docs = Path(__file__).parents[3] / "docs"
    shown = (docs / "benchmark.md").read_text().split("<!-- table ")[1:]
    tables = build_table(load_results(docs / "data" / "benchmark-perov-5"))
    assert [part.split()[0] for part in shown] == [*load_benchmark_config("perov-5").rewards, "all"]
    for text, table in zip(shown, tables, strict=True):
        lines = [line for line in text.splitlines() if line.startswith("| ")]
        assert len(lines) == 2 + len(table.rows)
        first = 2 if "runs" in table.headings else 1
        for row in table.rows:
            cells = [cell.replace("-", "−").replace("−0.000", "0.000") for cell in row[first:]]
            end = " | ".join(cell for cell in cells if cell) + " |"
            assert any(re.sub(r"\| (?=\|)", "", line).endswith(f"| {end}") for line in lines), end


def test_nothing_to_draw_is_told(tmp_path, capsys):
    assert main(["benchmark", "smoke", "--report-only", "--folder", str(tmp_path)]) == 2
    assert "no results" in capsys.readouterr().err
