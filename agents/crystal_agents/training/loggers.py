"""Loggers of metrics by name: TensorBoard and Weights & Biases."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from crystal_gym.errors import CrystalGymError, UnknownNameError

LoggerName = Literal["tensorboard", "wandb"]


class MetricsLogger(Protocol):
    """A logger of metrics."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics.

        Args:
            metrics: Values by name.
            step: Number of the training or environment step.
        """
        ...

    def close(self) -> None:
        """Write what is not written yet."""
        ...


class TensorBoard:
    """TensorBoard events in the folder ``tensorboard`` of a run.

    Args:
        run: Folder of the run.
    """

    def __init__(self, run: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(run / "tensorboard")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics; see ``MetricsLogger``."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write the remaining events."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, which resuming continues.

    The project is that of the environment variable ``WANDB_PROJECT``, by default ``crystal-gym``.
    With ``WANDB_MODE=offline``, nothing is sent.

    Args:
        run: Folder of the run, whose name is that of the run.

    Raises:
        CrystalGymError: If ``wandb`` is not installed.
    """

    def __init__(self, run: Path) -> None:
        try:
            wandb: Any = import_module("wandb")
        except ModuleNotFoundError as error:
            raise CrystalGymError(
                "Expected the package wandb, which is not installed. Run pip install wandb, or "
                "choose the logger tensorboard."
            ) from error
        run.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "crystal-gym"),
            name=run.name,
            id=hashlib.sha256(str(run.absolute()).encode()).hexdigest()[:16],
            resume="allow",
            dir=run,
        )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics; see ``MetricsLogger``."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


LOGGERS: dict[LoggerName, Callable[[Path], MetricsLogger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


@contextmanager
def open_loggers(names: Sequence[LoggerName], run: Path) -> Iterator[list[MetricsLogger]]:
    """Yield the loggers with these names, which are closed at the end of the block.

    Args:
        names: Names among ``LOGGERS``.
        run: Folder of the run.

    Raises:
        UnknownNameError: If a name is unknown.
        CrystalGymError: If the package of a logger is not installed.
    """
    made: list[MetricsLogger] = []
    try:
        for name in names:
            if name not in LOGGERS:
                raise UnknownNameError("logger", name, LOGGERS)
            made.append(LOGGERS[name](run))
        yield made
    finally:
        for logger in made:
            logger.close()
