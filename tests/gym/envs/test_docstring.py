"""The docstring of the environment is its page: its tables agree with the environment."""

import dataclasses
import inspect
import json
import re

import numpy as np
import pytest
from env_episodes import play

from crystal_gym.envs.generator import InstanceGenerator
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv


def documented_rows(section):
    """Return the rows of the table in a section of the docstring as dictionaries."""
    sections = re.split(r"\n\s*## ", CrystalSkeletonEnv.__doc__)
    lines = next(text for text in sections if text.startswith(section)).splitlines()
    rows = [
        [cell.strip(" `") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
        if "|" in line
    ]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def assert_documented(row, value, sizes):
    shape, kind = re.fullmatch(r"\((.*)\) (\w+)", row["Shape, type"]).groups()
    expected = tuple(
        sizes.get(part) or int(part) for part in shape.replace(" ", "").split(",") if part
    )
    assert np.shape(value) == expected
    assert isinstance(value, np.ndarray | np.generic)
    assert value.dtype == kind


@pytest.mark.parametrize(("reward", "extra"), [
    ("match", set()), ("validity", {"validity"}), (len, {"score", "failed", "failures"}),
])  # fmt: skip
def test_docstring_has_the_keys_shapes_and_types(toy, reward, extra):
    labels = {"gap": np.arange(12.0), "heat": np.arange(12.0)}
    crystals = dataclasses.replace(toy, labels=labels)
    env = CrystalSkeletonEnv(collection=crystals, reward=reward, target=["gap", "heat"])
    sizes = {"N": toy.max_sites, "E": toy.max_edges, "V": 5, "T": 2}
    observations, _, infos = play(env, lambda *_: 1, seed=0)
    for observation in observations:
        rows = documented_rows("Observation Space")
        assert {row["Key"] for row in rows} == set(env.observation_space)
        for row in rows:
            assert_documented(row, observation[row["Key"]], sizes)
    rows = documented_rows("Info")
    end_keys = {"match"} | extra
    assert {r["Key"] for r in rows if r["When"] == "end"} >= end_keys
    for step, info in enumerate(infos):
        last = step == len(infos) - 1
        expected = [r for r in rows if r["When"] == "always" or r["Key"] in end_keys]
        assert {row["Key"] for row in expected} == set(info)
        for row in expected:
            assert_documented(row, info[row["Key"]], sizes)
            if row["When"] == "end":
                assert (info[row["Key"]] != -1) == last


def test_docstring_has_the_arguments_and_their_defaults():
    documented = {
        row["Argument"]: json.loads(row["Default"].replace("None", "null"))
        for row in documented_rows("Arguments")
    }
    defaults = {}
    for function in (InstanceGenerator.__init__, CrystalSkeletonEnv.__init__):
        for name, parameter in inspect.signature(function).parameters.items():
            if name not in {"self", "generator", "instances"}:
                defaults[name] = parameter.default
    assert documented == defaults
