"""Test splits that a file assigns to the crystals of a collection."""

import csv
import json

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystal_gym import load_collection
from crystal_gym.collections.collection import SPLITS
from crystal_gym.collections.split_file import split_by_file
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError

NAMES = {"train": "training", "val": "Valid", "test": "TEST"}


def write_csv(path, rows, header=("material_id", "split")):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_json(path, rows, names=NAMES):
    lists = {name: [str(i) for i, split in rows if split == key] for key, name in names.items()}
    path.write_text(json.dumps(lists), "utf-8")
    return path


@pytest.fixture
def rows(toy):
    """The ids of the toy crystals with their splits moved by one."""
    return [(str(i), SPLITS[row % 3]) for row, i in enumerate(toy.ids)]


@settings(max_examples=30)
@given(st.data())
def test_every_crystal_of_a_file_is_in_its_split(toy, tmp_path_factory, data):
    others = data.draw(st.lists(st.sampled_from(SPLITS), min_size=9, max_size=9))
    splits = data.draw(st.permutations([*SPLITS, *others]))
    order = data.draw(st.permutations(range(12)))
    rows = [(str(toy.ids[row]), splits[row]) for row in order]
    folder = tmp_path_factory.mktemp("splits", numbered=True)
    further = [(i, "ignored", NAMES[split]) for i, split in rows]
    files = (
        write_csv(folder / "a.csv", rows),
        write_csv(folder / "b.csv", further, ("material_id", "note", "split")),
        write_json(folder / "c.json", rows),
    )
    for file in files:
        split = split_by_file(toy, file)
        assert split.splits.tolist() == splits
        assert split.name == f"toy-by-file-{file.stem}"
        assert split.ids.tolist() == toy.ids.tolist()
    # The fingerprint depends on the splits alone, not on the file.
    assert len({split_by_file(toy, file).fingerprint() for file in files}) == 1


def test_written_random_splits_are_read_again(tmp_path):
    crystals = load_collection("goldschmidt", split_by="random:7")
    rows = zip(crystals.ids, crystals.splits, strict=True)
    file = write_csv(tmp_path / "seed-7.csv", rows)
    again = load_collection("goldschmidt", split_by=file)
    assert again.fingerprint() == crystals.fingerprint()
    assert (again.name, crystals.name) == (
        "goldschmidt-by-file-seed-7",
        "goldschmidt-by-random-7",
    )


def test_integer_ids_of_json_are_read(toy, tmp_path):
    numbered = load_collection([toy.structure(row) for row in range(3)])
    path = tmp_path / "splits.json"
    path.write_text('{"train": [2], "val": [0], "test": [1]}')
    assert load_collection(numbered, split_by=path).splits.tolist() == ["val", "test", "train"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-2], r"each of the 12 crystals of 'toy', got none for 2 of them, such"),
        (lambda rows: [*rows, ("x", "val")], r"row 13: expected the id of a crystal .*got 'x'"),
        (lambda rows: [*rows, rows[0]], r"row 13: expected distinct ids, got 'toy-0' a second"),
        (lambda rows: [(rows[0][0], "dev set"), *rows[1:]], r"row 1: expected a split .*'dev set'"),
        (lambda rows: [(i, "train") for i, _ in rows], r"got none in val, test\. Assign"),
        (lambda rows: [*rows, ("", "val")], r"row 13: expected the id of a crystal .*got ''"),
    ],
)
def test_files_that_do_not_fit_the_crystals_raise(toy, rows, tmp_path, change, message):
    path = write_csv(tmp_path / "splits.csv", change(rows))
    with pytest.raises(CrystalGymError, match=message):
        load_collection(toy, split_by=path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,split\n", r"columns material_id and split, got no column 'material_id'"),
        ("a.csv", "material_id;split\n", r"separated by ';'"),
        ("a.csv", "material_id,split\ntoy-0,val,1\n", r"row 1: expected 2 entries .*got 3"),
        ("a.json", "{", r"expected valid JSON"),
        ("a.json", '["toy-0"]', r"one object with lists of ids"),
        ("a.json", '{"toy-0": "train"}', r"one object with lists of ids"),
        ("a.json", '{"train": [null]}', r"train, entry 1: expected an id as a string"),
    ],
)
def test_files_of_another_format_raise(toy, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DamagedFileError, match=message):
        load_collection(toy, split_by=path)


def test_missing_file_raises(toy, tmp_path):
    with pytest.raises(MissingDataError, match=r"got no file at .*none\.csv"):
        load_collection(toy, split_by=tmp_path / "none.csv")


def test_environments_draw_from_the_split_of_a_file(tmp_path):
    crystals = load_collection("goldschmidt")
    splits = dict(zip(crystals.ids.tolist(), np.resize(SPLITS, len(crystals)), strict=True))
    path = write_csv(tmp_path / "splits.csv", splits.items())
    for split_by in (path, str(path)):
        env = gym.make("crystal_gym:CrystalSkeleton-v0", split="val", split_by=split_by)
        drawn = crystals.ids[env.unwrapped.generator.rows]
        assert sorted(drawn) == sorted(i for i, split in splits.items() if split == "val")
    # A changed file is read again.
    write_csv(path, [(i, SPLITS[row % 2 * 2]) for row, i in enumerate(splits)])
    with pytest.raises(CrystalGymError, match="got none in val"):
        gym.make("crystal_gym:CrystalSkeleton-v0", split="val", split_by=str(path))
    first, second = (
        gym.make("crystal_gym:CrystalSkeleton-v0", split_by=f"random:{seed}") for seed in (0, 1)
    )
    assert first.unwrapped.generator.rows.tolist() != second.unwrapped.generator.rows.tolist()
