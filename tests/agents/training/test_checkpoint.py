"""Checkpoints: errors for other settings, other data, damaged files and a full disk."""

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import save_file
from small_files import small_files
from training_runs import (
    SMALL,
    InterruptedTraining,
    interrupt_step,
    run_cloning,
    same_weights,
)

from crystal_agents.policies.policy import load_policy
from crystal_agents.training import checkpoint
from crystal_agents.training.checkpoint import hash_inputs
from crystal_gym.errors import CrystalGymError, DamagedFileError, StorageError
from crystal_gym.utils.files import atomic_write


@pytest.fixture(scope="module")
def run_folder(expert, tmp_path_factory):
    """The folder of a finished run, which no test changes."""
    folder = tmp_path_factory.mktemp("run")
    run_cloning(folder, expert)
    return folder


@pytest.fixture
def finished(run_folder, tmp_path):
    """The checkpoint file in a copy of a finished run."""
    shutil.copytree(run_folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "checkpoint.pt"


@pytest.mark.parametrize("change", [{"seed": 5}, {"recipe": dataclasses.replace(SMALL, epochs=5)}])
def test_a_checkpoint_of_other_settings_is_rejected_and_kept(expert, finished, change):
    before = finished.read_bytes()
    with pytest.raises(CrystalGymError, match="other settings"):
        run_cloning(finished.parent, expert, **change)
    assert finished.read_bytes() == before


def test_a_checkpoint_of_another_vocabulary_is_rejected(expert, finished):
    other = dataclasses.replace(expert, vocabulary=tuple(reversed(expert.vocabulary)))
    with pytest.raises(CrystalGymError, match="another vocabulary"):
        run_cloning(finished.parent, other)


def test_a_checkpoint_of_other_data_is_rejected(expert, finished):
    other = dataclasses.replace(expert, lattice=expert.lattice * 2)
    with pytest.raises(CrystalGymError, match="other data"):
        run_cloning(finished.parent, other)


@pytest.mark.parametrize("fraction", [0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_reported(expert, finished, fraction):
    content = finished.read_bytes()
    finished.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(DamagedFileError, match="Delete it to start again") as raised:
        run_cloning(finished.parent, expert)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize(
    "state",
    [
        [1, 2],
        {"progress": {}},
        {"progress": {"steps": 3}, "fingerprint": ""},
        {"progress": {}, "fingerprint": ""},
    ],
)
def test_a_checkpoint_with_other_content_is_reported(expert, finished, state):
    torch.save(state, finished)
    with pytest.raises(DamagedFileError, match="incompatible version") as raised:
        run_cloning(finished.parent, expert)
    assert isinstance(raised.value.__cause__, (KeyError, TypeError))


def test_a_checkpoint_with_random_bytes_is_reported(expert, finished):
    finished.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(DamagedFileError, match="is damaged"):
        run_cloning(finished.parent, expert)


@pytest.fixture(scope="module")
def divided_folder(expert, tmp_path_factory):
    """The folder of a run that ended after 19 of 24 steps, which no test changes."""
    folder = tmp_path_factory.mktemp("divided")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "LARGEST_FILE", 1000)
        interrupt_step(patch, torch.optim.AdamW, 20)
        with pytest.raises(InterruptedTraining):
            run_cloning(folder, expert, checkpoint_seconds=0)
    return folder


@pytest.fixture
def divided(divided_folder, tmp_path):
    """The main file of a checkpoint in several files."""
    shutil.copytree(divided_folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / "checkpoint.pt"


def test_a_large_checkpoint_has_a_file_for_each_part(expert, run_folder, divided, monkeypatch):
    monkeypatch.setattr(checkpoint, "LARGEST_FILE", 1000)
    parts = [divided.with_name(f"checkpoint-19-{number}.pt") for number in range(3)]
    assert sorted(divided.parent.glob("checkpoint*")) == [*parts, divided]
    assert same_weights(run_cloning(divided.parent, expert), load_policy(run_folder))
    names = {path.name for path in divided.parent.glob("checkpoint*")}
    assert names == {"checkpoint.pt", *(f"checkpoint-24-{number}.pt" for number in range(3))}


@pytest.mark.parametrize("content", [None, b"", b"other"])
def test_a_damaged_part_of_a_checkpoint_is_reported(expert, divided, content):
    part = divided.with_name("checkpoint-19-1.pt")
    part.unlink()
    if content is not None:
        part.write_bytes(content)
    with pytest.raises(DamagedFileError, match="Delete it to start again"):
        run_cloning(divided.parent, expert)


@pytest.mark.parametrize("error", [PermissionError("no access"), torch.OutOfMemoryError("full")])
def test_errors_of_the_machine_are_not_reported_as_damage(expert, finished, monkeypatch, error):
    def load(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(type(error)):
        run_cloning(finished.parent, expert)


def test_a_full_disk_keeps_the_previous_checkpoint(expert, finished, monkeypatch):
    before = finished.read_bytes()

    def save(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(CrystalGymError, match="No space left"):
        run_cloning(finished.parent, expert)
    assert finished.read_bytes() == before
    assert not list(finished.parent.glob(".*"))


@pytest.mark.parametrize(
    "save",
    [
        torch.save,
        save_file,
        lambda values, path: torch.save(values, path.open("wb")),
    ],
)
def test_writers_of_weights_report_a_full_disk(tmp_path, save):
    with (
        small_files(50_000),
        pytest.raises(StorageError, match=r"(full disk|too large).*space"),
        atomic_write(tmp_path / "weights") as temporary,
    ):
        save({"weights": torch.rand(50_000)}, temporary)
    assert not list(tmp_path.iterdir())


def test_the_hash_depends_on_settings_and_content():
    hashes = {
        hash_inputs([0], [b"a"]),
        hash_inputs([1], [b"a"]),
        hash_inputs([0], [b"b"]),
        hash_inputs([0], []),
    }
    assert len(hashes) == 4
    assert hash_inputs([0], [b"a"]) == hash_inputs([0], [b"a"])
