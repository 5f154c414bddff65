"""Behavioral cloning with batches of fixed shapes: on a GPU, a step is one replay of a CUDA graph.

The batches and the losses are those of ``crystal_agents.training.loop`` for a recipe with
``traversals="expert"``, a constant learning rate and Adam.
"""

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from crystal_agents.training.fixed_shape import FixedShapeStore
from crystal_agents.training.precision import matrix_products
from crystal_agents.training.recipes import Recipe
from crystal_agents.training.seeding import make_generator
from crystal_agents.training.transition_batches import shuffled_groups

FixedShapePrecision = Literal["32-true", "tf32", "bf16-mixed"]
# Steps that allocate memory and compile kernels before a step is captured.
_WARM_UP_STEPS = 3


@dataclass(frozen=True)
class FixedShapeConfig:
    """Settings of a run.

    Attributes:
        recipe: The training; its optimizer is Adam with a constant learning rate.
        seed: Seed of the order of the batches.
        validate_every: Number of epochs between validations; the last epoch is always validated.
        precision: ``32-true``; ``tf32``, which rounds the inputs of matrix products to 10 bits of
            mantissa on GPUs that support it; or ``bf16-mixed``, automatic mixed precision.
        compiled: Whether to compile the loss with ``torch.compile``.
    """

    recipe: Recipe
    seed: int
    validate_every: int = 20
    precision: FixedShapePrecision = "32-true"
    compiled: bool = True


class FixedShapeTraining:
    """A run of behavioral cloning that can be stopped after every epoch and resumed.

    Args:
        model: The network with its initial weights, on the device of the stores; called with
            skeletons, elements and focus.
        data: Transitions of training.
        validation: Transitions of validation.
        config: The settings.

    Attributes:
        data: Transitions of training.
        optimizer: The optimizer.
        history: One row of metrics for each finished epoch, with the columns of the plain loop.
    """

    def __init__(
        self,
        model: nn.Module,
        data: FixedShapeStore,
        validation: FixedShapeStore,
        config: FixedShapeConfig,
    ) -> None:
        self.model, self.config = model, config
        self.history: list[dict[str, float]] = []
        self._device = data.focus.device
        self._cuda = self._device.type == "cuda"
        recipe = config.recipe
        self.optimizer = torch.optim.Adam(
            model.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            capturable=self._cuda,
            fused=self._cuda,
        )
        self.data = data
        self._data, self._validation = _Pass(data), _Pass(validation)
        # In the order of the dataset, some batches would have more edges than there is room for.
        self._validation_order = torch.randperm(len(validation), generator=make_generator(0))
        validation.check_order(self._validation_order)
        loss = self._loss
        if config.compiled:
            # PyTorch limits how often the code of earlier runs is compiled again for another.
            torch.compiler.reset()
            loss = torch.compile(loss, fullgraph=True)
        self._train_step = self._captured(lambda: self._update(loss))
        self._validation_step = self._captured(self._validate_batch)

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether all epochs of the recipe are finished."""
        return self.epoch >= self.config.recipe.epochs

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return self._data.n_batches

    @property
    def seconds(self) -> float:
        """Time spent in finished epochs, without validation."""
        return sum(row["seconds"] for row in self.history)

    def run(
        self,
        deadline: float = float("inf"),
        after_epoch: Callable[["FixedShapeTraining"], None] = lambda _: None,
    ) -> None:
        """Train until the last epoch or until a time.

        Args:
            deadline: Value of ``time.monotonic()`` after which no epoch starts.
            after_epoch: Function that is called after each epoch.
        """
        recipe = self.config.recipe
        with ThreadPoolExecutor(1) as background:
            order: Future[Tensor] = background.submit(self._order, self.epoch)
            while not self.finished and time.monotonic() < deadline:
                start = time.perf_counter()
                rows = order.result()
                order = background.submit(self._order, self.epoch + 1)
                loss, correct = self._data.run(self._train_step, rows)
                seconds = time.perf_counter() - start
                row = {
                    "epoch": self.epoch + 1,
                    "step": (self.epoch + 1) * self.steps_per_epoch,
                    "learning_rate": recipe.learning_rate,
                    "loss": loss / len(rows),
                    "train_accuracy": correct / len(rows),
                    "transitions_per_second": len(rows) / max(seconds, 1e-9),
                    "seconds": seconds,
                }
                due = row["epoch"] % self.config.validate_every == 0
                if due or row["epoch"] == recipe.epochs:
                    row["val_accuracy"] = self.validate()
                self.history.append(row)
                after_epoch(self)

    def validate(self) -> float:
        """Return the teacher-forced accuracy on the validation transitions."""
        rows = self._validation_order
        _, correct = self._validation.run(self._validation_step, rows)
        return correct / len(rows)

    def save(self, path: Path) -> None:
        """Write weights, optimizer state and history; the weights are a file of their own.

        Args:
            path: Prefix of the two files ``.safetensors`` and ``.optimizer.safetensors``.
        """
        record = {"history": json.dumps(self.history)}
        self._write(path.with_name(path.name + ".optimizer.safetensors"), self.moments(), record)
        self._write(
            path.with_name(path.name + ".safetensors"), dict(self.model.state_dict()), record
        )

    def load(self, path: Path) -> None:
        """Continue from the files of ``save``.

        Raises:
            ValueError: If the two files belong to different epochs.
        """
        weights, record = _read(path.with_name(path.name + ".safetensors"), self._device)
        moments, other = _read(path.with_name(path.name + ".optimizer.safetensors"), self._device)
        if record != other:
            raise ValueError(
                f"Expected the weights and the optimizer of one epoch in {path}*, got files of "
                "two epochs. Delete them to start again."
            )
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                value.copy_(weights[name])
            for name, value in self.moments().items():
                value.copy_(moments[name])
        self.history = json.loads(record["history"])

    def _order(self, epoch: int) -> Tensor:
        """Return the transitions in the order of an epoch, the same as in the plain loop."""
        store = self._data.store
        generator = make_generator(self.config.seed, epoch)
        order = shuffled_groups(store.skeleton_on_cpu, store.n_skeletons, 1, generator).flatten()
        store.check_order(order)
        return order.pin_memory() if self._cuda else order

    def _loss(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch, and the sums of losses and correct predictions."""
        batch, valid = self._data.batch(step)
        with self._autocast():
            logits = self._logits(batch)
        losses = F.cross_entropy(logits, batch.action[0], reduction="none") * valid
        correct = (logits.argmax(-1) == batch.action[0]) & valid
        total = losses.sum()
        return total / valid.sum(), torch.stack([total.detach(), correct.sum().float()])

    def _logits(self, batch: Any) -> Tensor:
        return self.model(batch.skeletons, batch.elements, batch.focus)[0].float()

    def _autocast(self) -> torch.autocast:
        mixed = self.config.precision == "bf16-mixed"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=mixed)

    def _update(self, loss: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        mean, sums = loss(self._data.step)
        self.optimizer.zero_grad(set_to_none=True)
        mean.backward()
        self.optimizer.step()
        self._data.sums += sums
        self._data.step += 1

    @torch.no_grad()
    def _validate_batch(self) -> None:
        # Without mixed precision, as in the plain loop.
        part = self._validation
        batch, valid = part.batch(part.step)
        correct = (self._logits(batch).argmax(-1) == batch.action[0]) & valid
        part.sums[1] += correct.sum()
        part.step += 1

    def moments(self) -> dict[str, Tensor]:
        """Return the tensors of Adam's state; those of a new optimizer are zero."""
        names = {id(value): name for name, value in self.model.named_parameters()}
        for parameter in self.model.parameters():
            state = self.optimizer.state[parameter]
            if not state:
                device = self._device if self._cuda else None
                state["step"] = torch.zeros((), dtype=torch.float32, device=device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        return {
            f"{names[id(parameter)]}/{key}": value
            for parameter, state in self.optimizer.state.items()
            for key, value in state.items()
        }

    def _captured(self, step: Callable[[], None]) -> Callable[[], None]:
        """Return a function that executes a step; on a GPU, it replays the captured step.

        The steps that are executed before the capture leave no trace.
        """
        with matrix_products(self.config.precision):
            if not self._cuda:
                return step
            parts = [self._data, self._validation]
            tensors = [*self.model.state_dict().values(), *self.moments().values()]
            tensors += [tensor for part in parts for tensor in (part.step, part.sums)]
            before = [tensor.clone() for tensor in tensors]
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP_STEPS):
                    step()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    tensor.copy_(value)
            return graph.replay

    @staticmethod
    def _write(path: Path, tensors: dict[str, Tensor], record: dict[str, str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".part")
        save_file({key: value.contiguous() for key, value in tensors.items()}, temporary, record)
        temporary.replace(path)


class _Pass:
    """One pass over the transitions of a store in batches.

    Args:
        store: The transitions.

    Attributes:
        step: Number of finished batches, a scalar on the device.
        sums: Sums of the losses and of the correct predictions, (2,).
    """

    def __init__(self, store: FixedShapeStore) -> None:
        self.store = store
        self.n_batches = -(-len(store) // store.batch_size)
        device = store.focus.device
        self._order = torch.full((self.n_batches * store.batch_size,), store.filler, device=device)
        self._places = torch.arange(store.batch_size, device=device)
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)

    def run(self, step: Callable[[], None], order: Tensor) -> tuple[float, float]:
        """Execute all steps of a pass; return the sums of losses and correct predictions."""
        self._order[: len(order)].copy_(order, non_blocking=True)
        self.step.zero_()
        self.sums.zero_()
        for _ in range(self.n_batches):
            step()
        loss, correct = self.sums.tolist()
        return loss, correct

    def batch(self, step: Tensor) -> tuple[Any, Tensor]:
        """Return a batch, and which of its states are not repetitions that fill it up."""
        places = step * self.store.batch_size + self._places
        rows = self._order[places.clamp_max(len(self._order) - 1)]
        return self.store.batch(rows), places < len(self.store)


def _read(path: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping
