"""Checkpoints, from which an interrupted run resumes with the same weights and history."""

import dataclasses
import hashlib
import json
import pickle
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric

from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.progress import Progress
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write

CHECKPOINT_FILE = "checkpoint.pt"

# Exceptions that can be raised by reading a damaged file or one with other content.
_READ_ERRORS = (
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
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
    """The checkpoint file of a run.

    It is replaced atomically and read without unpickling arbitrary objects.

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
        """The checkpoint file."""
        return self.config.run / CHECKPOINT_FILE

    def save(self, progress: Progress) -> None:
        """Replace the checkpoint with the current state.

        Raises:
            StorageError: If the file cannot be written; the previous checkpoint is kept.
        """
        if self.fabric.is_global_zero:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"progress": dataclasses.asdict(progress), "fingerprint": self.fingerprint}
            with atomic_write(self.path) as temporary, temporary.open("wb") as file:
                torch.save(state, file)
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
            state = torch.load(self.path, map_location=self.fabric.device, weights_only=True)
            fingerprint = state["fingerprint"]
            progress = Progress(**state["progress"])
            parts = {name: state[name] for name in self.parts}
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
