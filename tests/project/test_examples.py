"""The examples and the demo run in an empty folder."""

import dataclasses
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from crystal_agents import PolicyConfig, SkeletonPolicy, load_policy
from crystal_agents.cli import demo
from crystal_agents.cli import main as cli
from crystal_agents.training.recipes import RECIPES
from crystal_gym import load_collection

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {"hidden": 16, "vectors": 4, "geometry_layers": 1, "filling_layers": 1}


@pytest.fixture(autouse=True)
def clean_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def run(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_load_expert_data(monkeypatch, capsys):
    run(monkeypatch, "load_expert_data.py")
    assert "1045 episodes, 5225 steps" in capsys.readouterr().out


def test_d3rlpy_export_has_flat_observations_of_whole_episodes(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "d3rlpy_export.py")
    assert "5225 steps of 356 numbers" in capsys.readouterr().out
    with np.load(tmp_path / "d3rlpy.npz") as arrays:
        observations, actions, terminals = (
            arrays[name] for name in ("observations", "actions", "terminals")
        )
    # Five one-hot sites and one site in focus; before the last of five steps four sites are filled.
    assert (observations[:, : 5 * 66].sum(1) == 5).all()
    assert (observations[:, 5 * 66 : 5 * 66 + 5].sum(1) == 1).all()
    filled = 5 - observations[:, : 5 * 66 : 66].sum(1)
    assert filled.tolist() == [0, 1, 2, 3, 4] * 1045
    assert np.flatnonzero(terminals).tolist() == list(range(4, 5225, 5))
    assert actions.max() < 65


def test_random_agent_matches_chance(monkeypatch, capsys):
    run(monkeypatch, "random_agent.py")
    assert float(capsys.readouterr().out.split("%")[0]) < 4


def test_fill_a_cif_writes_five_structures(monkeypatch, capsys, tmp_path):
    load_collection("goldschmidt").structure("SrTiO3").to(filename=str(tmp_path / "own.cif"))
    run(monkeypatch, "fill_a_cif.py", "own.cif")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all("log p = -" in line for line in lines)
    filled = [Structure.from_file(path) for path in sorted(tmp_path.glob("filled-*.cif"))]
    assert len(filled) == 5
    assert all(len(structure) == 5 for structure in filled)


def test_substitute_ranks_the_elements_of_one_site(monkeypatch, capsys):
    run(monkeypatch, "substitute.py")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "In place of Sr in SrTiO3:"
    assert lines[6] == "In place of Ti in SrTiO3:"
    for ranked, kept in ((lines[1:6], "Ti"), (lines[7:], "Sr")):
        probabilities = [float(line.split("p = ")[1].split()[0]) for line in ranked]
        assert len(ranked) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(kept in line and line.endswith("O3)") for line in ranked)


def test_battery_cathode_ranks_the_transition_metals_of_layered_oxides(monkeypatch, capsys):
    run(monkeypatch, "battery_cathode.py")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "In place of Co in LiCoO2:"
    elements = [line.split()[1].rstrip(":") for line in lines[1:]]
    assert len(elements) == len(set(elements)) == 10
    # The known layered oxides LiCoO2, LiNiO2 and LiMnO2.
    assert {"Co", "Ni", "Mn"} <= set(elements[:5])


def test_zeolite_skeleton_is_filled_with_silica_first(monkeypatch, capsys):
    run(monkeypatch, "zeolite_skeleton.py")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "18 sites"
    assert lines[1].startswith("1. SiO2: log p = -")
    formulas = [line.split()[1] for line in lines[1:]]
    assert len(formulas) == len(set(formulas)) == 8


def test_perovskite_oxides_are_ranked_by_energy(monkeypatch, capsys):
    run(monkeypatch, "perovskite_oxides.py")
    lines = capsys.readouterr().out.splitlines()
    energies = [float(line.split(": ")[1].split()[0]) for line in lines]
    assert len(lines) == 10
    assert energies == sorted(energies)
    assert all("O3: " in line for line in lines)
    assert any("SrTiO3" in line for line in lines)


def test_watch_a_policy_draws_an_episode(monkeypatch, capsys, tmp_path):
    collection = load_collection("goldschmidt")
    torch.manual_seed(0)
    policy = SkeletonPolicy(PolicyConfig("egnn", collection.vocabulary.symbols, 5, SMALL))
    policy.save(tmp_path / "policy")
    run(monkeypatch, "watch_a_policy.py", "policy", "goldschmidt", "p.png", "SrTiO3")
    assert "SrTiO3 in 5 steps" in capsys.readouterr().out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_finetune_saves_a_policy(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "finetune.py")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("cloned: match ")
    assert lines[2].startswith("finetuned: match ")
    assert load_policy("finetuned").vocabulary == load_policy("goldschmidt/egnn").vocabulary
    assert (tmp_path / "finetuned-ppo.zip").exists()


def test_dft_reward_prints_the_energies_of_all_fillings(monkeypatch, capsys):
    run(monkeypatch, "dft_reward.py")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["AlAl", "AlNi", "NiAl", "NiNi"]
    assert all(line.endswith("eV/atom") for line in lines)
    monkeypatch.setitem(sys.modules, "gpaw", None)
    with pytest.raises(SystemExit):
        run(monkeypatch, "dft_reward.py", "--calculator", "gpaw")
    assert "GPAW is not installed; see https://" in capsys.readouterr().err


def test_demo_runs_from_crystals_to_a_picture(monkeypatch, capsys, tmp_path):
    recipe = dataclasses.replace(demo.RECIPE, settings=SMALL, epochs=1)
    monkeypatch.setattr(demo, "RECIPE", recipe)
    assert cli.main(["demo", "--folder", "outputs"]) == 0
    printed = capsys.readouterr().out
    for row in ("small egnn", "uniform", "nearest skeleton", "ground truth"):
        assert row in printed
    assert (tmp_path / "outputs" / "filling.png").stat().st_size > 10_000
    assert (tmp_path / "outputs" / "policy" / "policy.safetensors").exists()


def test_many_sizes_are_built_trained_and_evaluated(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "many_sizes.py", "prototypes", "--every", "12")
    assert "24 crystals of 1 to 64 sites" in capsys.readouterr().out
    assert cli.main(["build-dataset", "prototypes", "--trajectories", "1"]) == 0
    for name, settings in (("egnn", SMALL), ("egnn-paper", {"hidden": 8, "layers": 1})):
        recipe = dataclasses.replace(RECIPES[name], settings=settings, epochs=1)
        monkeypatch.setitem(RECIPES, name, recipe)
        assert cli.main(["train", "prototypes", "--recipe", name, "--accelerator", "cpu"]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", "runs/prototypes-egnn-seed-0", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert 0 <= rows["egnn"]["metrics"]["accuracy"]["mean"] < 1
    assert rows["ground truth"]["metrics"]["accuracy"]["mean"] == 1
    # The number of sites of a network with an indexed focus is that of the largest cell.
    assert load_policy("runs/prototypes-egnn-paper-seed-0").config.max_sites == 64
    assert cli.main(["evaluate", "runs/prototypes-egnn-paper-seed-0", "--no-baselines"]) == 0
