"""Plans: what a benchmark compares, as committed files."""

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crystal_gym.errors import CrystalGymError, UnknownNameError

# Of a plan; all else decides what a run is.
LISTS = ("rewards", "methods", "seeds")

# Plans that come with the package.
_FOLDER = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is compared, and for how long.

    Attributes:
        collection: name or path of the crystals.
        policy: the cloned policy: a name of ``crystal_agents.pretrained_policies()``, or a folder.
        rewards: names of ``crystal_gym.rewards.REWARDS``.
        contestants: names of ``crystal_agents.experiments.benchmark.methods.METHODS``.
        seeds: one run of each learner for each.
        steps: sites that an online learner fills.
        num_envs: crystals filled side by side.
        every: steps between two points of a curve.
        curve_crystals: crystals of val on which these are measured.
        offline_epochs: passes of offline learners over their data.
        offline_trajectories: episodes of each training crystal in these data.
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
        from crystal_agents.experiments.benchmark.methods import METHODS
        from crystal_gym.rewards import REWARDS

        for name in ("collection", "policy"):
            self._check(name, isinstance(getattr(self, name), str), "a text")
        for name in LISTS:
            value = getattr(self, name)
            whole = isinstance(value, tuple) and value and len(set(map(str, value))) == len(value)
            self._check(name, bool(whole), "a list of at least one, and none of them twice")
        for kind, names, known in (
            ("reward", self.rewards, REWARDS),
            ("method", self.methods, METHODS),
        ):
            for name in names:
                if not isinstance(name, str) or name not in known:
                    raise UnknownNameError(kind, str(name), known)
        self._check("seeds", all(_is_whole(seed, 0) for seed in self.seeds), "whole numbers from 0")
        for field in dataclasses.fields(self):
            if field.type is int:
                self._check(
                    field.name, _is_whole(getattr(self, field.name), 1), "a whole number from 1"
                )

    def only(self, **lists: Sequence[Any]) -> "BenchmarkConfig":
        """The same plan with some of its ``rewards``, ``contestants`` or ``seeds``; of none, all.

        Raises:
            CrystalGymError: something is asked for that the plan does not hold.
        """
        for name, some in lists.items():
            held = getattr(self, name)
            strange = [one for one in some if one not in held]
            if strange:
                told, asked = (", ".join(map(str, names)) for names in (held, strange))
                raise CrystalGymError(f"The plan's {name} are {told}; not {asked}.")
        changes = {name: tuple(dict.fromkeys(some)) for name, some in lists.items() if some}
        return dataclasses.replace(self, **changes)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the outcome of a run; the lists may grow from one call to the next."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in LISTS}

    def _check(self, name: str, fits: bool, wanted: str) -> None:
        if not fits:
            raise CrystalGymError(f"{name} of a plan: {wanted}, not {getattr(self, name)!r}.")


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**32


def load_benchmark_config(name_or_path: str | Path) -> BenchmarkConfig:
    """A plan by its name, or from a TOML file.

    Raises:
        UnknownNameError: neither a plan nor a file; or an unknown reward or contestant in it.
        CrystalGymError: the file is no plan.
    """
    known = {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}
    path = known.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise UnknownNameError("plan (nor is it a file)", str(name_or_path), known)
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CrystalGymError(f"{path} is no TOML file: {error}.") from error
    fields = {field.name for field in dataclasses.fields(BenchmarkConfig)}
    if set(raw) != fields:
        missing, strange = sorted(fields - set(raw)), sorted(set(raw) - fields)
        raise CrystalGymError(
            f"{path} is no plan: missing {', '.join(missing) or 'nothing'}; "
            f"unknown {', '.join(strange) or 'nothing'}."
        )
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
    }
    return BenchmarkConfig(**values)
