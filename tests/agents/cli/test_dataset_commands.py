"""Commands on collections and datasets: prepare, list, build-dataset."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_labels_of_a_collection_without_labels_exit_with_2(run):
    code, _, err = run("prepare", "goldschmidt", "--labels")
    assert code == 2
    assert "labels" in err


def test_prepare_describes_the_embedded_collection(run):
    code, out, err = run("prepare", "goldschmidt")
    assert (code, err) == (0, "")
    assert "computed" in out
    for split in ("train", "val", "test"):
        assert split in out
    assert "Ti" in out


def test_prepare_reads_a_folder_of_cif_files(run, cif_folder):
    code, out, _ = run("prepare", cif_folder)
    assert code == 0
    assert "3 crystals" in out


def test_prepare_prints_the_warnings_of_the_parser(cif_folder):
    path = cif_folder / "crystal-3.cif"
    text = re.sub(r"(_chemical_formula_sum +).*", r"\1'Na7 O1'", path.read_text())
    path.write_text(text)
    # In a separate process, because pytest turns warnings into errors.
    command = [str(Path(sys.executable).with_name("crystal-gym")), "prepare", str(cif_folder)]
    command += ["--on-error", "skip"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("crystal-gym:")]
    assert "warning: 1 of 3 crystals cannot be read and are left out" in line
    assert "crystal-3.cif" in done.stderr
    assert "warnings.warn" not in done.stderr


def test_list_shows_collections_and_built_datasets(run, monkeypatch, tmp_path):
    from crystal_gym.collections import COLLECTIONS

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    code, out, _ = run("list")
    assert code == 0
    assert all(name in out for name in COLLECTIONS)
    assert "No dataset is built yet" in out


def test_list_shows_policies_and_marks_damaged_ones(run, tmp_path):
    for name, content in (("good", '{"network": "gcn", "symbols": ["O", "Ti"]}'), ("bad", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.json").write_text(content)
    code, out, _ = run("list", "--runs", tmp_path)
    assert code == 0
    assert "gcn" in out
    assert "damaged" in out


@pytest.mark.usefixtures("minari_folder")
def test_build_dataset_writes_the_missing_datasets(run):
    build = ("build-dataset", "goldschmidt", "--trajectories", 1, "--splits")
    code, out, _ = run(*build, "val")
    assert code == 0
    assert "crystal-gym/goldschmidt/expert-val-v0: 209 episodes, 1,045 steps" in out

    code, out, _ = run(*build, "val", "test")
    assert code == 0
    assert "expert-val-v0: already built" in out
    assert "expert-test-v0: 210 episodes" in out

    code, out, _ = run("list")
    assert code == 0
    assert "expert-val-v0" in out
    assert "1,045" in out

    code, _, err = run(*build, "val", "--seed", 1)
    assert code == 2
    assert "--overwrite" in err
    code, out, _ = run(*build, "val", "--seed", 1, "--overwrite")
    assert code == 0
    assert "built in" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--splits", "val", "tset"), "Did you mean 'test'?"),
        (("--behavior", "expertt"), "Did you mean 'expert'?"),
        (("--trajectories", 0), "at least one start site"),
    ],
)
def test_build_dataset_rejects_invalid_options_before_writing(run, minari_folder, options, message):
    code, _, err = run("build-dataset", "goldschmidt", *options)
    assert code == 2
    assert message in err
    assert not list(minari_folder.rglob("*.hdf5"))


def test_list_works_without_the_datasets_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    code, out, _ = run("list")
    assert code == 0
    assert "crystal-gym[datasets]" in out


def test_build_dataset_rejects_another_folder_of_the_same_name(
    run, cif_folder, monkeypatch, tmp_path
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert run("build-dataset", cif_folder, "--splits", "train")[0] == 0
    code, out, _ = run("build-dataset", cif_folder, "--splits", "train")
    assert code == 0
    assert "already built" in out
    other = tmp_path / "elsewhere" / cif_folder.name
    other.parent.mkdir()
    shutil.copytree(cif_folder, other)
    (other / "crystal-2.cif").unlink()
    code, _, err = run("build-dataset", other, "--splits", "train")
    assert code == 2
    text = " ".join(err.split())
    assert f"to be built from {other} (SHA-256" in text
    assert f"got one built from {cif_folder} (SHA-256" in text


def test_build_dataset_skips_empty_splits_unless_they_are_named(
    run, cif_folder, monkeypatch, tmp_path
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    code, out, _ = run("build-dataset", cif_folder)
    assert code == 0
    assert "no crystals in val, test: skipped" in out
    code, _, err = run("build-dataset", cif_folder, "--splits", "train", "val")
    assert code == 2
    assert "no crystals in val" in err
