"""Commands on collections of one name, changed collections and other collections."""

import csv
import json
import re

import minari
import pytest

from crystal_agents import load_policy
from crystal_datasets import load_transitions
from crystal_gym import load_collection
from crystal_gym.errors import CollectionMismatchError

pytestmark = pytest.mark.usefixtures("minari_folder", "cache")

TRAIN = ("--recipe", "gcn", "--epochs", 1, "--accelerator", "cpu")


@pytest.fixture
def write_csv(toy, tmp_path, monkeypatch):
    """A function that writes toy crystals, given by their rows, to a CSV file."""
    monkeypatch.chdir(tmp_path)

    def write(name, rows, split="train"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["material_id", "cif", "split"])
            for row in rows:
                own = split if isinstance(split, str) else split[row]
                writer.writerow([toy.ids[row], toy.structure(row).to(fmt="cif"), own])
        return path

    return write


def one_line(text):
    return " ".join(text.split())


def assert_names_both(err, first, second):
    """Assert that a message gives the origins and the short fingerprints of two collections."""
    text = one_line(err)
    for path in (first, second):
        assert f"{path} (SHA-256 " in text
    assert len(set(re.findall(r"SHA-256 ([0-9a-f]{12})\)", text))) == 2


@pytest.mark.filterwarnings("default::crystal_gym.errors.CollectionMismatchWarning")
def test_datasets_of_another_file_of_the_same_name_are_refused(run, write_csv, minari_folder):
    first, second = write_csv("x/data.csv", range(4)), write_csv("y/data.csv", range(6))
    assert run("build-dataset", first, "--splits", "train")[0] == 0
    # The name `data` would make Minari take the namespace for a dataset.
    (name,) = minari.list_local_datasets()
    assert re.fullmatch(r"crystal-gym/data-[0-9a-f]{8}/expert-train-v0", name)
    built = (minari_folder / name / "data" / "main_data.hdf5").read_bytes()
    card = (minari_folder / name / "README.md").read_text("utf-8")
    assert f"`{load_collection(first).fingerprint()}`" in card
    assert f"`{first}`" in card

    for command in (
        ("train", second, *TRAIN),
        ("train-offline", second, "--behavior", "expert", "--algorithm", "bc", *TRAIN),
        ("build-dataset", second, "--splits", "train"),
    ):
        code, _, err = run(*command)
        assert code == 2, command
        assert_names_both(err, first, second)
    assert (minari_folder / name / "data" / "main_data.hdf5").read_bytes() == built
    code, _, err = run("build-dataset", second, "--splits", "train", "--overwrite")
    assert code == 0
    assert "warning: The dataset" in err
    assert_names_both(err, first, second)
    assert load_transitions(name, progress=False).collections == {
        load_collection(second).fingerprint(): str(second)
    }


def test_edited_file_is_refused_wherever_its_dataset_or_policy_is_used(run, write_csv):
    path = write_csv("set.csv", range(6))
    fingerprint = load_collection(path).fingerprint()
    assert run("build-dataset", path, "--splits", "train")[0] == 0
    assert run("train", path, *TRAIN, "--run-folder", "policy")[0] == 0
    assert load_policy("policy").config.training["collection_sha256"] == fingerprint
    evaluate = ("evaluate", "policy", "--split", "train", "--json", "--no-baselines")
    code, out, _ = run(*evaluate)
    assert code == 0
    report = json.loads(out)
    assert (report["collection_sha256"], report["notes"]) == (fingerprint, [])
    dataset = minari.load_dataset("crystal-gym/set/expert-train-v0")
    assert dataset.recover_environment().reset(options={"crystal": 1})[1]["crystal"] == 1

    # A moved file has the same crystals.
    moved = path.rename(path.with_name("moved.csv"))
    code, out, _ = run(*evaluate, "--collection", moved)
    assert (code, json.loads(out)["notes"]) == (0, [])

    write_csv("set.csv", range(1, 6))
    with pytest.raises(CollectionMismatchError, match=r"set\.csv .*have changed since"):
        dataset.recover_environment()
    finetune = ("finetune", "policy", "--steps", 64, "--num-envs", 4, "--critic-warm-up", 0)
    for command in (evaluate, finetune, (*finetune, "--collection", path)):
        code, _, err = run(*command)
        assert code == 2, command
        assert_names_both(err, path, path)
        assert "have changed since" in one_line(err)
    code, _, err = run("train", path, *TRAIN, "--run-folder", "other")
    assert code == 2
    assert_names_both(err, path, path)

    # Another collection of the same vocabulary is legitimate, and the report says so.
    other = write_csv("other.csv", range(1, 6))
    code, out, _ = run(*evaluate, "--collection", other)
    assert code == 0
    (note,) = json.loads(out)["notes"]
    assert_names_both(note, path, other)
    assert f"policy was trained on {path}" in note
    code, out, _ = run(*evaluate[:-2], "--collection", other)
    assert code == 0
    assert f"Note: policy was trained on {path}" in one_line(out)
    code, out, _ = run(*finetune, "--collection", other, "--run-folder", "tuned")
    assert code == 0
    assert "Note: policy was trained on" in one_line(out)
    (stage,) = load_policy("tuned").config.training["finetuning"]
    assert stage["collection_sha256"] == load_collection(other).fingerprint()


def test_moved_file_in_other_splits_is_refused(run, write_csv):
    path = write_csv("set.csv", range(6), ("train", "val", "test") * 2)
    build = ("build-dataset", path, "--splits", "train", "--split-by", "composition")
    assert run(*build)[0] == 0
    code, _, err = run("train", path, *TRAIN, "--run-folder", "policy", *build[-2:])
    assert code == 0, err
    moved = path.rename(path.with_name("moved.csv"))
    evaluate = ("evaluate", "policy", "--split", "train", "--json", "--no-baselines")
    code, out, _ = run(*evaluate, "--collection", moved)
    assert (code, json.loads(out)["notes"]) == (0, [])
    code, _, err = run(*evaluate, "--collection", moved, "--split-by", "origin")
    assert code == 2
    assert "has seen crystals that splits by origin hold out" in one_line(err)


def test_names_without_ascii_letters_stay_distinct(run, write_csv):
    names = ("钙钛矿.csv", "перовскит.csv", "a b.csv", "a-b.csv", "data.csv")
    for name in names:
        path = write_csv(name, range(2))
        assert run("build-dataset", path, "--splits", "train")[0] == 0
    assert len(minari.list_local_datasets()) == len(names)
    assert run("list")[0] == 0


@pytest.mark.parametrize("value", ["minari", "~/minari", "./sub/../minari"])
def test_relative_folders_of_datasets_work(run, write_csv, tmp_path, monkeypatch, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", value)
    path = write_csv("set.csv", range(2))
    assert run("build-dataset", path, "--splits", "train")[0] == 0
    assert (tmp_path / "minari/crystal-gym/set/expert-train-v0/data/main_data.hdf5").is_file()
    assert not (tmp_path / "~").exists()
    monkeypatch.setenv("MINARI_DATASETS_PATH", value)
    assert "crystal-gym/set/expert-train-v0" in run("list")[1]
    monkeypatch.setenv("MINARI_DATASETS_PATH", value)
    assert run("train", path, *TRAIN, "--run-folder", "policy")[0] == 0


def test_prepare_prints_the_fingerprint(run, write_csv):
    path = write_csv("set.csv", range(2))
    code, out, _ = run("prepare", path)
    assert code == 0
    assert f"Fingerprint: {load_collection(path).fingerprint()[:12]}" in out


def test_folder_that_blocks_the_listing_of_datasets_is_named(run, minari_folder):
    blocking = minari_folder / "crystal-gym" / "data"
    blocking.mkdir(parents=True)
    code, out, _ = run("list")
    assert code == 0
    assert f"because of {blocking}. Move this folder away" in one_line(out)


@pytest.mark.filterwarnings("always::crystal_gym.errors.ParserWarning")
def test_crystals_that_cannot_be_read_are_left_out_on_request(run, write_csv, minari_folder):
    path = write_csv("set.csv", range(4))
    path.write_text(path.read_text("utf-8").replace("_cell_length_a", "_cell", 1), "utf-8")
    for command in (("prepare", path), ("build-dataset", path, "--splits", "train")):
        code, _, err = run(*command)
        assert code == 2
        assert 'on_error="skip"' in err
        code, _, err = run(*command, "--on-error", "skip")
        assert code == 0
        assert "warning: 1 of 4 crystals" in err
    name = "crystal-gym/set/expert-train-v0"
    assert "could not be read | 1 |" in (minari_folder / name / "README.md").read_text("utf-8")
    dataset = minari.load_dataset(name)
    assert dataset.storage.metadata["crystal_gym"]["excluded_crystals"] == 1
    assert dataset.recover_environment().unwrapped.table.collection.ids.tolist() == [
        "toy-1",
        "toy-2",
        "toy-3",
    ]
    assert run("train", path, *TRAIN, "--on-error", "skip", "--run-folder", "policy")[0] == 0
    evaluate = ("evaluate", "policy", "--split", "train", "--json", "--no-baselines")
    assert run(*evaluate)[0] == 2
    assert run(*evaluate, "--on-error", "skip")[0] == 0
