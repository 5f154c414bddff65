"""Checkpoints, from which an interrupted run resumes with the same weights and history."""

import dataclasses
import hashlib
import json
import pickle
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor

from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.progress import Progress
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write

CHECKPOINT_FILE = "checkpoint.pt"
# Size in bytes above which each part of a checkpoint has a file of its own.
LARGEST_FILE = 16_000_000

# Exceptions that can be raised by reading a damaged file or one with other content.
_READ_ERRORS = (
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    FileNotFoundError,
)


class Stateful(Protocol):
    """An object with a state that a checkpoint stores, such as a module or an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state by name."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Replace the state."""
        ...


@dataclass
class Checkpoint:
    """The checkpoint of a run.

    It is replaced atomically and read without unpickling arbitrary objects. Its parts are in one
    file, or in a file each if they have more than ``LARGEST_FILE`` bytes together: the names of
    these files contain the step, and the main file refers to them.

    Attributes:
        config: The run; its folder contains the file.
        fabric: The launched Fabric of the run; only its first process writes.
        parts: Objects whose states are stored, by name.
        fingerprint: Hash of everything that determines the weights, see ``hash_inputs``. A
            checkpoint with another fingerprint is rejected.
        saved_at: Time of the last save, in seconds of a monotonic clock.
    """

    config: TrainingConfig
    fabric: Fabric
    parts: dict[str, Stateful]
    fingerprint: str
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """The main file."""
        return self.config.run / CHECKPOINT_FILE

    def save(self, progress: Progress) -> None:
        """Replace the checkpoint with the current state.

        Raises:
            StorageError: If the file cannot be written; the previous checkpoint is kept.
        """
        if self.fabric.is_global_zero:
            parts = {name: part.state_dict() for name, part in self.parts.items()}
            files: dict[str, str] = {}
            if _n_bytes(parts) > LARGEST_FILE:
                for number, (name, state) in enumerate(parts.items()):
                    files[name] = f"checkpoint-{progress.step}-{number}.pt"
                    _save(state, self.path.with_name(files[name]))
                parts = {}
            main = {"progress": dataclasses.asdict(progress), "fingerprint": self.fingerprint}
            _save({**parts, **main, "files": files}, self.path)
            for file in self.path.parent.glob("checkpoint-[0-9]*-[0-9]*.pt"):
                if file.name not in files.values():
                    file.unlink()
        self.fabric.barrier()
        self.saved_at = time.monotonic()

    def save_if_due(self, progress: Progress) -> None:
        """Save if ``checkpoint_seconds`` have passed since the last save.

        Raises:
            StorageError: If the file cannot be written; the previous checkpoint is kept.
        """
        due = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
        if self.fabric.broadcast(due):
            self.save(progress)

    def load(self) -> Progress:
        """Restore all parts and return the progress; a new progress if there is no checkpoint.

        Raises:
            DamagedFileError: If the file is damaged or was written by an incompatible version.
            CrystalGymError: If the checkpoint belongs to other settings or data.
        """
        if not self.path.is_file():
            return Progress()
        try:
            state = self._read(CHECKPOINT_FILE)
            fingerprint = state["fingerprint"]
            progress = Progress(**state["progress"])
            files = state.get("files", {})
            parts = {
                name: self._read(files[name]) if name in files else state[name]
                for name in self.parts
            }
        except torch.OutOfMemoryError:
            raise
        except _READ_ERRORS as error:
            raise DamagedFileError(
                f"{self.path} is damaged or was written by an incompatible version "
                f"({type(error).__name__}). Delete it to start again."
            ) from error
        if fingerprint != self.fingerprint:
            raise CrystalGymError(
                f"{self.path} belongs to a run with other settings, another vocabulary or other "
                "data. Choose another folder, or delete the file to start again."
            )
        for name, part in self.parts.items():
            part.load_state_dict(parts[name])
        return progress

    def _read(self, name: str) -> Any:
        path = self.path.with_name(name)
        return torch.load(path, map_location=self.fabric.device, weights_only=True)


def _save(state: Any, path: Path) -> None:
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def _n_bytes(state: Any) -> int:
    """Return the size of all tensors in nested dictionaries and sequences."""
    if isinstance(state, Tensor):
        return state.nbytes
    if isinstance(state, Mapping):
        state = state.values()
    elif not isinstance(state, list | tuple):
        return 0
    return sum(map(_n_bytes, state))


def hash_inputs(settings: list[Any], content: Iterable[bytes]) -> str:
    """Return the SHA-256 of everything that determines the weights of a run.

    Args:
        settings: Settings as JSON values.
        content: Content of the data, such as the bytes of arrays.
    """
    digest = hashlib.sha256(json.dumps(settings).encode())
    for part in content:
        digest.update(part)
    return digest.hexdigest()
