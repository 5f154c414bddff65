"""Folders of datasets, which are complete or absent."""

import os
import subprocess
import sys
from pathlib import Path

import minari
import pytest

from crystal_datasets import build_dataset, dataset_id, minari_writer
from crystal_gym.errors import CrystalGymError, StorageError


def interrupt(*_):
    raise KeyboardInterrupt


def test_existing_dataset_is_replaced_only_on_request(toy, folder):
    name = build_dataset(toy, "train", progress=False)
    with pytest.raises(CrystalGymError, match=r"exists at .*overwrite=True"):
        build_dataset(toy, "train", progress=False)
    assert build_dataset(toy, "train", trajectories=1, overwrite=True, progress=False) == name
    assert len(minari.load_dataset(name)) == len(toy.in_split("train"))
    assert sorted(path.name for path in folder.iterdir()) == ["crystal-gym"]


def test_interrupted_build_leaves_nothing_and_explains_how_to_repeat_it(
    toy, folder, monkeypatch, capsys
):
    monkeypatch.setattr(minari_writer, "dataset_card", interrupt)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        build_dataset(toy, "train", progress=False)
    assert "Build it again with the same arguments" in interrupted.value.__notes__[0]
    assert capsys.readouterr().err == ""
    assert list(folder.iterdir()) == []
    assert minari.list_local_datasets() == {}


def test_interrupted_replacement_keeps_the_old_dataset(toy, folder, monkeypatch):
    name = build_dataset(toy, "train", progress=False)
    old = (folder / name / "data" / "main_data.hdf5").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(minari_writer, "dataset_card", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build_dataset(toy, "train", trajectories=1, overwrite=True, progress=False)
    with monkeypatch.context() as patch:
        rename = Path.rename

        def fail_for_the_new_folder(path, target):
            if path.name == "new":
                raise OSError(28, "No space left on device")
            return rename(path, target)

        patch.setattr(Path, "rename", fail_for_the_new_folder)
        with pytest.raises(StorageError, match="No space left"):
            build_dataset(toy, "train", trajectories=1, overwrite=True, progress=False)
    assert (folder / name / "data" / "main_data.hdf5").read_bytes() == old
    assert [path.name for path in folder.iterdir()] == ["crystal-gym"]


def test_folders_of_killed_builds_are_hidden_and_later_removed(toy, folder):
    name = dataset_id("toy", "train").replace("/", "-")
    old, recent = (folder / f".building-{name}-{suffix}" for suffix in ("old", "recent"))
    for staging in (old, recent):
        (staging / "new" / "data").mkdir(parents=True)
    for path in (old / "new" / "data", old / "new", old):
        os.utime(path, (0, 0))
    assert minari.list_local_datasets() == {}
    build_dataset(toy, "train", progress=False)
    assert not old.exists()
    assert recent.exists()


def test_unwritable_folder_is_reported(toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "minari"))
    with pytest.raises(StorageError, match="MINARI_DATASETS_PATH"):
        build_dataset(toy, "train", progress=False)


def test_error_without_a_message_is_reported_by_its_type(toy, folder, monkeypatch):
    def fail(*_):
        raise PermissionError

    monkeypatch.setattr(minari_writer, "dataset_card", fail)
    with pytest.raises(StorageError, match="PermissionError"):
        build_dataset(toy, "train", progress=False)
    assert list(folder.iterdir()) == []


def test_full_disk_gives_a_clear_error(folder):
    script = (
        "import resource\n"
        "from crystal_datasets import build_dataset\n"
        "from crystal_gym.errors import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        "try:\n"
        "    build_dataset('goldschmidt', 'val', progress=False)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "Free some space" in done.stdout
    assert list(folder.iterdir()) == []
