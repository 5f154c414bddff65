"""FIXDOC."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crystal_gym.utils.files import atomic_write

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

from crystal_agents.policies.policy import SkeletonPolicy
from crystal_agents.training.seeding import make_generator
from crystal_agents.training.transition_batches import TransitionStore

if TYPE_CHECKING:
    pass


HISTORY_FILE = "metrics.csv"


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """The figures of every epoch as CSV, whole or absent."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with atomic_write(path) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)


@dataclass
class Progress:
    """Where a run stands; all of it goes into the checkpoint."""

    step: int = 0
    loss: float = 0.0
    states: int = 0
    right: float = 0.0
    actions: float = 0.0
    seconds: float = 0.0
    others: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_accuracy: float = -1.0
    since_best: int = 0
    stopped: bool = False

    def add(self, loss: float, right: float, actions: float, states: int, **others: float) -> None:
        """Take a step's figures into the epoch's; all are sums, the others over states."""
        self.loss += loss
        self.states += states
        self.right += right
        self.actions += actions
        for name, value in others.items():
            self.others[name] = self.others.get(name, 0.0) + value

    def metrics(self) -> dict[str, float]:
        """The epoch so far."""
        return {
            "loss": self.loss / max(self.states, 1),
            **{name: total / max(self.states, 1) for name, total in self.others.items()},
            "train_accuracy": self.right / max(self.actions, 1),
            "transitions_per_second": self.states / max(self.seconds, 1e-9),
            "seconds": self.seconds,
        }

    def end_epoch(self) -> dict[str, float]:
        """The epoch's figures; the next one begins."""
        metrics = self.metrics()
        self.loss = self.right = self.actions = self.seconds = 0.0
        self.states, self.others = 0, {}
        return metrics

    def keep_if_best(self, policy: nn.Module, accuracy: float, patience: int) -> None:
        """Remember the best weights, and stop the run when its patience is at an end."""
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.since_best = accuracy, 0
            self.best = {key: value.clone() for key, value in policy.state_dict().items()}
        else:
            self.since_best += 1
        self.stopped = self.since_best >= patience


def teacher_forced_accuracy(policy: SkeletonPolicy, store: TransitionStore) -> float:
    """Fraction of transitions at which the most probable action is the expert's."""
    was_training = policy.training
    policy.eval()
    right = torch.zeros(len(store), dtype=torch.bool)
    with torch.no_grad():
        # Five states of a skeleton share its geometry; one that is drawn twice is written twice.
        for groups in store.groups(5, make_generator(0)).split(512):
            batch = store.batch(groups)
            logits = policy(batch.skeletons, batch.elements, batch.focus)
            right[groups] = (logits.argmax(-1) == batch.action).T.cpu()
    policy.train(was_training)
    return right.double().mean().item()
