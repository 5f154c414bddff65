"""Energies by a model in a process of its own, which is stopped when it takes too long."""

import logging
import math
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, Any

import numpy as np

from crystal_gym.collections.collection import formula
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.energy.interface import EnergyModel, FilledSkeleton, split_by_sites

_log = logging.getLogger(__name__)

# Seconds in which a new process must import the packages and make the model.
_START_SECONDS = 300.0
# Calculators print to the standard output, so the results need a descriptor of their own.
_SERVE = "from crystal_gym.rewards.energy.time_limit import serve; serve()"


class TimeLimitedEnergy:
    """Another model whose computations have a time limit and are repeated if they fail.

    The model computes in a process of its own. A process that takes longer than the limit is
    killed; one that ends, for example by a fault in compiled code, is started again. Neither ends
    this process.

    Args:
        model: The model, which can be pickled.
        timeout: Seconds for a batch of the model, which is one crystal of an ASE calculator;
            infinity sets no limit.
        retries: Number of further attempts after a computation that took too long, ended its
            process, or returned NaN.

    Raises:
        CrystalGymError: If ``timeout`` is not positive or ``retries`` is negative.
    """

    def __init__(self, model: EnergyModel, timeout: float, retries: int = 0) -> None:
        if not timeout > 0:
            raise CrystalGymError(
                f"Expected timeout to be a positive number of seconds, got {timeout!r}."
            )
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise CrystalGymError(f"Expected retries to be an integer from 0, got {retries!r}.")
        self.model, self.timeout, self.retries = model, float(timeout), retries
        self.name = model.name
        self.reference_energies = model.reference_energies
        self.sites_per_batch = model.sites_per_batch
        self._process: _ModelProcess | None = None
        self._owner = os.getpid()

    def __reduce__(self) -> tuple:
        """Pickle the model and the limits; each copy has a process of its own."""
        return type(self), (self.model, self.timeout, self.retries)

    def energies(self, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
        """Compute energies in eV/atom; see ``EnergyModel.energies``.

        Raises:
            CrystalGymError: If the model raises one, or its process does not start.
        """
        values = np.full(len(crystals), np.nan)
        for batch in split_by_sites(crystals, self.sites_per_batch):
            missing = np.array(batch)
            for _ in range(1 + self.retries):
                values[missing] = self._attempt([crystals[index] for index in missing])
                missing = missing[np.isnan(values[missing])]
                if not len(missing):
                    break
        return values

    def _attempt(self, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
        """Compute energies once, (k,); NaN if the process takes too long or ends."""
        # A fork of this process must not read the results of its parent's process.
        if self._process is None or self._owner != os.getpid():
            self._process, self._owner = _ModelProcess(self.model), os.getpid()
        result = self._process.compute(crystals, self.timeout)
        if isinstance(result, CrystalGymError):
            raise result
        if isinstance(result, np.ndarray):
            return result
        self._process.stop()
        self._process = None
        names = ", ".join(formula(numbers) for _, numbers in crystals)
        _log.warning("No energy for %s: the computation %s.", names, result)
        return np.full(len(crystals), np.nan)


class _ModelProcess:
    """A process that computes energies with a model.

    Args:
        model: The model, which can be pickled.

    Raises:
        CrystalGymError: If the process does not start.
    """

    def __init__(self, model: EnergyModel) -> None:
        import cloudpickle  # also pickles calculators that are defined in a script

        self._process = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self._send(cloudpickle.dumps(model))
        started = self._receive(_START_SECONDS)
        if started is not None:
            self.stop()
            raise CrystalGymError(
                f"Expected a process that computes energies with {model.name}, got one that "
                f"{started} at its start. Its messages are above."
            )

    def compute(
        self, crystals: Sequence[FilledSkeleton], timeout: float
    ) -> "np.ndarray | CrystalGymError | str":
        """Return the energies, (k,), the error of the model, or why there is no result.

        Args:
            crystals: k skeletons with the atomic numbers on their sites.
            timeout: Limit in seconds; can be infinite.
        """
        self._send(pickle.dumps(list(crystals)))
        return self._receive(timeout)

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()

    def _send(self, content: bytes) -> None:
        stream: Any = self._process.stdin
        try:
            stream.write(len(content).to_bytes(8, "little") + content)
            stream.flush()
        except OSError:
            pass  # the process has ended, which `_receive` reports

    def _receive(self, timeout: float) -> Any:
        try:
            return self._results.get(timeout=None if math.isinf(timeout) else timeout)
        except queue.Empty:
            return f"took longer than {timeout:g} s"

    def _read(self) -> None:
        stream: Any = self._process.stdout
        with stream:
            while (content := _next_message(stream)) is not None:
                # The process of this class has pickled it.
                self._results.put(pickle.loads(content))  # noqa: S301
        self._results.put("ended its process")


def _next_message(stream: IO[bytes]) -> bytes | None:
    """Return the next message, or ``None`` at the end of the stream."""
    length = stream.read(8)
    content = stream.read(int.from_bytes(length, "little"))
    return content if len(length) == 8 and content else None


def serve() -> None:
    """Compute energies for the process that has started this one, until it ends."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer

    def send(result: Any) -> None:
        content = pickle.dumps(result)
        results.write(len(content).to_bytes(8, "little") + content)
        results.flush()

    content = _next_message(requests)
    if content is None:
        return
    # The process that has started this one has pickled the messages.
    model: EnergyModel = pickle.loads(content)  # noqa: S301
    send(None)
    while (content := _next_message(requests)) is not None:
        try:
            send(model.energies(pickle.loads(content)))  # noqa: S301
        except CrystalGymError as error:
            send(error)
