"""Benchmark configs: the configs of the package, and validation."""

import dataclasses
import json

import pytest

from crystal_agents.experiments.benchmark.config import load_benchmark_config
from crystal_agents.experiments.benchmark.methods import METHODS, check_methods
from crystal_gym.errors import CrystalGymError, UnknownNameError


def write_config(path, **changes):
    raw = json.loads(json.dumps(dataclasses.asdict(load_benchmark_config("smoke")))) | changes
    # JSON numbers, strings and lists are valid TOML.
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in raw.items()))
    return path


def test_configs_of_the_package_can_be_loaded():
    config = load_benchmark_config("perov-5")
    assert set(config.methods) == set(METHODS)
    assert len(config.seeds) == 5
    smoke = load_benchmark_config("smoke")
    assert smoke.steps < config.steps
    for loaded in (config, smoke):
        check_methods(loaded)


def test_config_can_be_loaded_from_a_file(tmp_path):
    path = write_config(tmp_path / "config.toml", steps=640)
    assert load_benchmark_config(path) == dataclasses.replace(
        load_benchmark_config("smoke"), steps=640
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": ["wealth"]}, "Unknown reward 'wealth'"),
        (
            {"steps": 0},
            "steps of a benchmark config to be an integer of at least 1, got 0",
        ),
        ({"steps": "a"}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"offline_trajectories": True}, "offline_trajectories"),
        ({"rewards": []}, "Expected rewards of a benchmark config to be a list of unique values"),
        ({"rewards": [1]}, "Unknown reward '1'"),
        ({"methods": "bc"}, "methods"),
        ({"methods": [1]}, "Expected methods of a benchmark config to be strings"),
        ({"methods": ["bc", "bc"]}, "unique values"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [-1]}, "Expected seeds of a benchmark config to be integers from 0"),
        ({"seeds": ["a"]}, "seeds"),
        ({"collection": 5}, "Expected collection of a benchmark config to be a string"),
        ({"color": "red"}, r"unknown keys \(color\)"),
    ],
)
def test_invalid_configs_are_rejected(tmp_path, change, message):
    with pytest.raises(CrystalGymError, match=message):
        load_benchmark_config(write_config(tmp_path / "config.toml", **change))


def test_missing_keys_are_named(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('collection = "goldschmidt"')
    with pytest.raises(CrystalGymError, match=r"missing keys \(curve_crystals, every, "):
        load_benchmark_config(path)


def test_file_that_is_not_toml_is_rejected_with_its_cause(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("steps: 5")
    with pytest.raises(CrystalGymError, match="Expected a TOML file") as error:
        load_benchmark_config(path)
    assert error.value.__cause__ is not None


def test_unknown_method_is_rejected_by_the_check(tmp_path):
    config = load_benchmark_config(write_config(tmp_path / "config.toml", methods=["a2c"]))
    with pytest.raises(UnknownNameError, match="Unknown method 'a2c'"):
        check_methods(config)


def test_unknown_config_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="smoke"):
        load_benchmark_config("perov5")


def test_selection_keeps_the_other_lists():
    config = load_benchmark_config("perov-5")
    selected = config.only(rewards=[], methods=["bc", "uniform", "bc"], seeds=[3])
    assert selected == dataclasses.replace(config, methods=("bc", "uniform"), seeds=(3,))
    with pytest.raises(CrystalGymError, match=r"Expected seeds .*\(0, 1, 2, 3, 4\), got 7"):
        config.only(seeds=[2, 7])


def test_settings_are_all_fields_but_the_lists_and_the_collection():
    config = load_benchmark_config("smoke")
    assert set(config.settings) == set(dataclasses.asdict(config)) - {
        *("rewards", "methods", "seeds", "collection")
    }
