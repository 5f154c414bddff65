"""Benchmark configs: the rewards, methods, seeds and training budgets of a benchmark."""

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards import REWARDS

# These lists select runs; the other fields are settings of every run.
LISTS = ("rewards", "methods", "seeds")

# Configs that are part of the package.
_FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class BenchmarkConfig:
    """The runs of a benchmark and their settings.

    Attributes:
        collection: Name or path of the collection.
        policy: The cloned policy: a name of ``crystal_agents.pretrained_policies()``, or a folder.
        rewards: Names of ``crystal_gym.rewards.REWARDS``.
        methods: Names of ``crystal_agents.experiments.benchmark.methods.METHODS``. They are
            validated by ``check_methods`` before the first run.
        seeds: Seeds; a method that depends on the seed runs once for each.
        steps: Environment steps of an online learner, one site each.
        num_envs: Parallel environments of an online learner.
        every: Environment steps between two points of a learning curve.
        curve_crystals: Crystals of the val split on which the learning curve is measured.
        offline_epochs: Epochs of an offline learner.
        offline_trajectories: Trajectories per training crystal in the offline dataset.

    Raises:
        CrystalGymError: If a value is invalid.
        UnknownNameError: If a reward is unknown.
    """

    collection: str
    policy: str
    rewards: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    num_envs: int
    every: int
    curve_crystals: int
    offline_epochs: int
    offline_trajectories: int

    def __post_init__(self) -> None:
        for name in ("collection", "policy"):
            self._check(name, isinstance(getattr(self, name), str), "a string")
        for name in LISTS:
            self._check(name, _is_unique_list(getattr(self, name)), "a list of unique values")
        for name in self.rewards:
            if not isinstance(name, str) or name not in REWARDS:
                raise UnknownNameError("reward", str(name), REWARDS)
        self._check("methods", all(isinstance(name, str) for name in self.methods), "strings")
        self._check("seeds", all(_is_integer(seed, 0) for seed in self.seeds), "integers from 0")
        for field in dataclasses.fields(self):
            if field.type is int:
                value = getattr(self, field.name)
                self._check(field.name, _is_integer(value, 1), "an integer of at least 1")

    def only(self, **selection: Sequence[Any]) -> "BenchmarkConfig":
        """Return the config restricted to some of its rewards, methods or seeds.

        Args:
            **selection: ``rewards``, ``methods`` or ``seeds`` to keep; an empty sequence keeps all.

        Raises:
            CrystalGymError: If a selected value is not in the config.
        """
        for name, selected in selection.items():
            available = getattr(self, name)
            unavailable = [value for value in selected if value not in available]
            if unavailable:
                raise CrystalGymError(
                    f"Expected {name} of the benchmark config "
                    f"({', '.join(map(str, available))}), got {', '.join(map(str, unavailable))}. "
                    "Select other values or add these to a config file."
                )
        changes = {
            name: tuple(dict.fromkeys(selected)) for name, selected in selection.items() if selected
        }
        return dataclasses.replace(self, **changes)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that, with the collection, determine the result of a run.

        Rewards, methods and seeds are left out, because they can be extended between two calls.
        """
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in {*LISTS, "collection"}
        }

    def _check(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            raise CrystalGymError(
                f"Expected {name} of a benchmark config to be {expected}, got "
                f"{getattr(self, name)!r}. Change the config."
            )


def _is_unique_list(value: Any) -> bool:
    return isinstance(value, tuple) and 0 < len(value) == len(set(map(str, value)))


def _is_integer(value: Any, minimum: int) -> bool:
    return type(value) is int and minimum <= value < 2**32


def load_benchmark_config(name_or_path: str | Path) -> BenchmarkConfig:
    """Load a benchmark config by its name, or from a TOML file.

    Raises:
        UnknownNameError: If there is neither a config nor a file of this name, or if the config
            has an unknown reward.
        CrystalGymError: If the file is not a valid config.
    """
    known = {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}
    path = known.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise UnknownNameError("benchmark config or file", str(name_or_path), known)
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CrystalGymError(
            f"Expected a TOML file, got invalid content in {path}: {error}. Correct the file."
        ) from error
    fields = {field.name for field in dataclasses.fields(BenchmarkConfig)}
    if set(raw) != fields:
        missing, unknown = sorted(fields - set(raw)), sorted(set(raw) - fields)
        raise CrystalGymError(
            f"Expected the keys of a benchmark config in {path}, got a file with missing keys "
            f"({', '.join(missing) or 'none'}) or unknown keys ({', '.join(unknown) or 'none'}). "
            "Correct the file."
        )
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
    }
    return BenchmarkConfig(**values)
