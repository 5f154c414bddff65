"""Commands on random splits and on the splits of a file."""

import csv
import json

import minari
import pytest

from crystal_agents import load_policy
from crystal_gym import load_collection
from crystal_gym.collections.collection import SPLITS

pytestmark = pytest.mark.usefixtures("minari_folder", "cache")

TRAIN = ("--recipe", "gcn", "--epochs", 1, "--accelerator", "cpu")
EVALUATE = ("--start-sites", 1, "--no-baselines", "--json")


@pytest.fixture
def crystals(toy, tmp_path, monkeypatch):
    """A CSV file of nine toy crystals, three in each split, in the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "set.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["material_id", "cif", "split"])
        for row in range(9):
            writer.writerow([toy.ids[row], toy.structure(row).to(fmt="cif"), SPLITS[row % 3]])
    return path


def write_splits(path, shift):
    rows = "".join(f"toy-{row},{SPLITS[(row + shift) % 3]}\n" for row in range(9))
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"material_id,split\n{rows}")
    return path


def one_line(text):
    return " ".join(text.split())


def test_policy_of_random_splits_is_evaluated_on_them_alone(run, crystals):
    split_by = ("--split-by", "random:7")
    code, out, _ = run("prepare", crystals, *split_by)
    assert code == 0
    assert "set-by-random-7: 9 crystals" in out
    code, _, err = run("train", crystals, *TRAIN, *split_by)
    assert code == 2
    assert f"crystal-gym build-dataset {crystals} --split-by random:7" in one_line(err)
    assert run("build-dataset", crystals, *split_by)[0] == 0
    assert minari.list_local_datasets().keys() == {
        f"crystal-gym/set-by-random-7/expert-{split}-v0" for split in SPLITS
    }
    code, out, _ = run("train", crystals, *TRAIN, *split_by)
    assert code == 0
    assert "Policy: runs/set-by-random-7-gcn-seed-0" in out

    evaluate = ("evaluate", "runs/set-by-random-7-gcn-seed-0", *EVALUATE)
    code, out, _ = run(*evaluate)
    report = json.loads(out)
    random = load_collection(crystals, split_by="random:7")
    assert (code, report["split_by"], report["collection"]) == (0, "random:7", "set-by-random-7")
    assert (report["collection_sha256"], report["n_crystals"]) == (random.fingerprint(), 3)
    for other in ("origin", "random:8", "random:-1"):
        code, out, err = run(*evaluate, "--split-by", other)
        assert (code, out) == (2, "")
        assert other in err


def test_splits_of_a_file_are_those_of_its_content(run, crystals, tmp_path):
    splits = write_splits(tmp_path / "folds" / "fold.csv", 1)
    split_by = ("--split-by", "folds/fold.csv")
    assert run("build-dataset", crystals, *split_by, "--splits", "train")[0] == 0
    assert run("train", crystals, *TRAIN, *split_by)[0] == 0
    folder = "runs/set-by-file-fold-gcn-seed-0"
    assert load_policy(folder).config.training["split_by"] == str(splits)
    dataset = minari.load_dataset("crystal-gym/set-by-file-fold/expert-train-v0")
    assert dataset.recover_environment().spec.kwargs["split_by"] == str(splits)

    evaluate = ("evaluate", folder, *EVALUATE)
    code, out, _ = run(*evaluate)
    assert (code, json.loads(out)["split_by"]) == (0, str(splits))

    # Another file of the same name has the dataset's id, and is refused.
    other = write_splits(tmp_path / "other" / "fold.csv", 2)
    for command in (
        ("build-dataset", crystals, "--split-by", other, "--splits", "train"),
        ("train", crystals, *TRAIN, "--split-by", other),
        (*evaluate, "--split-by", other),
        (*evaluate, "--split-by", "origin"),
    ):
        code, _, err = run(*command)
        assert code == 2, command
        assert "fold.csv" in err or "SHA-256" in err

    # A moved file has the same splits.
    moved = splits.rename(tmp_path / "moved.csv")
    code, _, err = run(*evaluate)
    assert code == 2
    assert f"no file at {splits}" in one_line(err)
    code, out, _ = run(*evaluate, "--split-by", moved)
    assert (code, json.loads(out)["split_by"]) == (0, str(moved))

    # A changed file has other splits.
    write_splits(splits, 2)
    code, _, err = run(*evaluate)
    assert code == 2
    assert "have changed since" in one_line(err)
