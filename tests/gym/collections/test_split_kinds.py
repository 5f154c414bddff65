"""Test the names of kinds of splits."""

from pathlib import Path

import pytest

from crystal_gym.collections import canonical_split_by, is_split_file, load_collection
from crystal_gym.errors import CrystalGymError, UnknownNameError


def test_canonical_kinds_are_valid_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("origin", "composition", "prototype", "random:0", "random:4294967295"):
        assert canonical_split_by(name) == name
        assert not is_split_file(name)
    assert canonical_split_by("random:007") == "random:7"
    for file in ("folds/0.csv", "folds/0.JSON", "0.csv.gz", "random:7.csv", "composition.json"):
        absolute = str(tmp_path / file)
        assert canonical_split_by(file) == canonical_split_by(Path(file)) == absolute
        assert canonical_split_by(absolute) == absolute
        assert is_split_file(file)


@pytest.mark.parametrize("seed", ["", ":", ":-1", ":7.5", ":seven", ": 7", ":²", ":4294967296"])
def test_invalid_seeds_raise(toy, seed):
    with pytest.raises(CrystalGymError, match=r"random:SEED with an integer seed from 0 to .*got"):
        load_collection(toy, split_by=f"random{seed}")


@pytest.mark.parametrize("name", ["", "randomly:7", "Origin", "splits.txt", "folder"])
def test_unknown_kinds_raise(toy, name):
    with pytest.raises(UnknownNameError, match=r"Unknown split_by .*random:SEED"):
        load_collection(toy, split_by=name)
