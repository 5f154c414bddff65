"""Progress of a training run: counters, running sums, history and best weights."""

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class Progress:
    """The progress of a run, all of which its checkpoint stores.

    Attributes:
        step: Number of optimizer steps so far.
        states: Number of states in the batches of the current epoch so far.
        seconds: Time spent on the optimizer steps of the current epoch so far, in seconds.
        sums: Sums over the current epoch by name. ``correct`` and ``actions`` count predictions;
            all others, such as ``loss``, are sums over states.
        history: One row of metrics for each completed epoch.
        best: Weights with the highest validation accuracy; empty without patience.
        best_accuracy: Validation accuracy of these weights; -1 before the first validation.
        since_best: Number of validations since the best one.
        stopped: Whether patience has ended the run.
    """

    step: int = 0
    states: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_accuracy: float = -1.0
    since_best: int = 0
    stopped: bool = False

    def add(self, sums: dict[str, float], states: int) -> None:
        """Add one batch to the current epoch.

        Args:
            sums: Sums over the batch, by name.
            states: Number of states in the batch.
        """
        self.states += states
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the current epoch so far."""
        means = {
            name: total / max(self.states, 1)
            for name, total in self.sums.items()
            if name not in {"correct", "actions"}
        }
        return {
            **means,
            "train_accuracy": self.sums.get("correct", 0.0) / max(self.sums.get("actions", 0.0), 1),
            "transitions_per_second": self.states / max(self.seconds, 1e-9),
            "seconds": self.seconds,
        }

    def end_epoch(self) -> dict[str, float]:
        """Return the metrics of the completed epoch and reset its sums."""
        metrics = self.metrics()
        self.states, self.seconds, self.sums = 0, 0.0, {}
        return metrics

    def keep_if_best(self, policy: nn.Module, accuracy: float, patience: int) -> None:
        """Keep the weights if they are the best so far, and stop the run if patience is exhausted.

        Args:
            policy: The validated policy.
            accuracy: Its validation accuracy.
            patience: Number of validations without improvement after which the run stops.
        """
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.since_best = accuracy, 0
            self.best = {key: value.clone() for key, value in policy.state_dict().items()}
        else:
            self.since_best += 1
        self.stopped = self.since_best >= patience
