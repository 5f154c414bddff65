"""What all training loops share: a run's settings, optimizers, history and checkpoints."""

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric

from crystal_agents.training.config import TrainingConfig
from crystal_agents.training.loop import Progress
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write

if TYPE_CHECKING:
    pass

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass
class Checkpoint:
    """The run's state on disk: written beside and renamed, read without unpickling."""

    args: TrainingConfig
    fabric: Fabric
    parts: dict[str, Any]
    fingerprint: str
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """Of the checkpoint."""
        return self.args.run / CHECKPOINT_FILE

    def save(self, progress: Progress) -> None:
        """Replace the checkpoint by the present state."""
        if self.fabric.is_global_zero:
            state = {name: part.state_dict() for name, part in self.parts.items()}
            state |= {"progress": dataclasses.asdict(progress), "fingerprint": self.fingerprint}
            with atomic_write(self.path) as beside:
                torch.save(state, beside)
        self.fabric.barrier()
        self.saved_at = time.monotonic()

    def save_if_due(self, progress: Progress) -> None:
        """Save when the last one is long enough ago."""
        due = time.monotonic() - self.saved_at >= self.args.checkpoint_seconds
        if self.fabric.broadcast(due):
            self.save(progress)

    def load(self) -> Progress:
        """The state to go on from; a fresh one where there is no checkpoint."""
        if not self.path.is_file():
            return Progress()
        try:
            state = torch.load(self.path, map_location=self.fabric.device, weights_only=True)
            progress = Progress(**state["progress"])
            same = state["fingerprint"] == self.fingerprint
        except Exception as error:  # torch's readers raise whatever they stumble over
            raise DamagedFileError(
                f"{self.path} is damaged ({type(error).__name__}). Delete it to begin anew."
            ) from error
        if not same:
            raise CrystalGymError(
                f"{self.path} belongs to a run with other settings, another vocabulary or other "
                "data. Choose another folder, or delete it to begin anew."
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return progress
