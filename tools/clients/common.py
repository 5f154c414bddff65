"""What the checks of the clients share: the plain environment and the report of results.

A check is a function that raises an error if something does not work. Each file ``check_*.py``
lists its checks and calls ``run``, which prints the results as one line of JSON.
"""

import importlib.metadata
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

# The module before the colon is imported by Gymnasium, also in worker processes.
ENV_ID = "crystal_gym:CrystalSkeleton-v0"
FLAT_ID = "crystal_gym:CrystalSkeletonFlat-v0"
SEED = 7

Observation = dict[str, Any] | np.ndarray


class Check(NamedTuple):
    """One capability of a client.

    Attributes:
        name: What works, as it is shown in the table.
        function: Raises an error if it does not work; may return a sentence about the measurement.
        needs: What it needs besides the plain environment or dataset (default: nothing).
        defect: The client is known to fail here; the function confirms the failure.
    """

    name: str
    function: Callable[[], str | None]
    needs: str = ""
    defect: bool = False


class Episode(NamedTuple):
    """Rewards, first and last observation of an episode."""

    rewards: list[float]
    first: Observation
    last: Observation


class PlainEpisodes:
    """Episodes of the plain single environment, with which those of a client are compared.

    Args:
        seed: Seed of the first episode; the others continue its random numbers.
        env_id: Id of the environment.
        **arguments: Arguments of the environment.
    """

    def __init__(self, seed: int = SEED, *, env_id: str = ENV_ID, **arguments: Any) -> None:
        self._env = gym.make(env_id, **arguments)
        self._seed: int | None = seed

    def skip(self) -> None:
        """Draw an episode that is not played, where a client resets twice."""
        self._env.reset(seed=self._seed)
        self._seed = None

    def play(self, actions: Sequence[int], **options: Any) -> Episode:
        """Play one episode with given actions.

        Args:
            actions: One action for each site.
            **options: ``crystal`` and ``start_site`` (default: drawn).

        Raises:
            AssertionError: If the episode does not end with the last action.
        """
        observation, _ = self._env.reset(seed=self._seed, options=options or None)
        self._seed = None
        first, rewards, ended = observation, [], False
        for action in actions:
            expect(not ended, "the plain episode ended before that of the client")
            observation, reward, ended, _, _ = self._env.step(int(action))
            rewards.append(float(reward))
        expect(ended, "the plain episode did not end with that of the client")
        return Episode(rewards, first, observation)

    def compare(
        self,
        actions: Sequence[int],
        rewards: Sequence[float],
        first: Observation,
        last: Observation | None = None,
        **options: Any,
    ) -> float:
        """Compare an episode of a client with the plain one, and return its return.

        Args:
            actions: Actions, (n,).
            rewards: Rewards, (n,), equal up to the rounding of float32.
            first: The first observation.
            last: The observation after the last action (default: not compared).
            **options: ``crystal`` and ``start_site`` (default: drawn).

        Raises:
            AssertionError: If the episodes differ.
        """
        plain = self.play(actions, **options)
        np.testing.assert_allclose(np.asarray(rewards, float), plain.rewards, atol=1e-6)
        expect_equal(first, plain.first)
        if last is not None:
            expect_equal(last, plain.last)
        return sum(plain.rewards)


def expect(condition: bool, message: str) -> None:
    """Raise an AssertionError with the message if the condition does not hold."""
    if not condition:
        raise AssertionError(message)


def expect_equal(observation: Observation, plain: Observation) -> None:
    """Raise an AssertionError if two observations differ in a key or a value."""
    if isinstance(plain, Mapping):
        expect(
            isinstance(observation, Mapping) and set(observation) == set(plain),
            f"Expected the keys {sorted(plain)}, got {observation}.",
        )
        for name, values in plain.items():
            np.testing.assert_array_equal(np.asarray(observation[name]), values, err_msg=name)
    else:
        np.testing.assert_array_equal(np.asarray(observation), plain)


def split_episodes(ended: np.ndarray) -> list[slice]:
    """Return the steps of each complete episode, from the flags of its last steps, bool (T,)."""
    ends = np.flatnonzero(ended) + 1
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return [slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def run(distribution: str, checks: Sequence[Check]) -> None:
    """Run the checks in a temporary folder and print the results as the last line of the output.

    Args:
        distribution: Name of the client's distribution, whose requirements are reported.
        checks: The checks.
    """
    warnings.simplefilter("default")
    results = []
    for check in checks:
        started = time.perf_counter()
        note, error = None, None
        # Clients print a lot; the results alone are on the standard output.
        with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            os.environ["MINARI_DATASETS_PATH"] = folder
            try:
                note = check.function()
            except Exception as problem:  # noqa: BLE001 - one failure must not hide other results
                traceback.print_exc()
                error = f"{type(problem).__name__}: {problem}".strip().splitlines()[0][:200]
            os.chdir("/")
        results.append(
            {
                "name": check.name,
                "needs": check.needs,
                "defect": check.defect,
                "passed": error is None,
                "note": note,
                "error": error,
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
        print(f"{check.name}: {error or note or 'ok'}", file=sys.stderr)
    print(json.dumps({"requires": _gymnasium_requirement(distribution), "checks": results}))


def _gymnasium_requirement(distribution: str) -> str:
    """Return the range of Gymnasium versions that a distribution requires, or an empty string."""
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    for requirement in requirements:
        name, _, condition = requirement.partition(";")
        if name.lower().startswith("gymnasium") and not name.lower().startswith("gymnasium-"):
            # RLlib's requirements are those of an extra of Ray.
            if "extra" in condition and "rllib" not in condition:
                continue
            return (
                name.partition("]")[2].strip() if "[" in name else name[len("gymnasium") :].strip()
            )
    return ""
