"""The expert's transitions in memory, compared with those of a dataset."""

import dataclasses

import numpy as np
import pytest

from crystal_datasets import build_dataset, expert_transitions, load_transitions
from crystal_gym.errors import CrystalGymError


@pytest.mark.parametrize(("split", "trajectories"), [("all", 5), ("train", 2)])
def test_transitions_equal_those_of_the_dataset(toy, tmp_path, monkeypatch, split, trajectories):
    for variable in ("MINARI_DATASETS_PATH", "CRYSTAL_GYM_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    name = build_dataset(toy, split, trajectories=trajectories, seed=3, progress=False)
    expected = load_transitions(name, progress=False)
    found = expert_transitions(toy, split, trajectories=trajectories, seed=3)
    for field in dataclasses.fields(expected):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b


def test_an_empty_split_is_rejected(toy):
    with pytest.raises(CrystalGymError, match="Expected crystals in the split 'val'"):
        expert_transitions(toy.take(toy.in_split("train")), "val")
