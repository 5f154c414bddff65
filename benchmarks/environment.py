"""Steps per second of the environment, as ratios to Gymnasium's CartPole in the same run.

Everything is measured in short turns, one after the other, so that a busy machine slows all alike;
the table shows medians over the turns. Run

    python benchmarks/environment.py --collection perov-5 --json environment.json
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import tyro
from gymnasium.utils.performance import benchmark_step, benchmark_vector_step
from rich.console import Console
from rich.table import Table

import crystal_gym


@dataclass
class Args:
    """Steps per second of the environment against CartPole."""

    collection: str = "goldschmidt"
    """Name or path of the crystals to fill."""
    num_envs: int = 1024
    """Environments in the vectors."""
    turns: int = 15
    """How often everything is measured."""
    seconds: float = 0.3
    """Duration of one measurement."""
    json: Path | None = None
    """Also write the result to this file."""


# Name, numerator, denominator, and what is asked for at the least.
MASKED = "vector, charge-neutral"
RATIOS = (
    ("single / CartPole", "single", "CartPole", 0.8),
    ("vector / CartPole vector", "vector", "CartPole vector", 0.25),
    ("vector / single", "vector", "single", 20.0),
    # At most twice the cost.
    (f"{MASKED} / vector", MASKED, "vector", 0.5),
)


def main(args: Args) -> None:
    """Measure, print a table and JSON."""
    ours = {"collection": crystal_gym.load_collection(args.collection)}
    singles = {
        "CartPole": gym.make("CartPole-v1"),
        "single": gym.make("CrystalSkeleton-v0", **ours),
    }
    vectors = {
        "CartPole vector": gym.make_vec("CartPole-v1", args.num_envs),
        "vector": gym.make_vec("CrystalSkeleton-v0", args.num_envs, **ours),
        "vector, same-step": gym.make_vec(
            "CrystalSkeleton-v0", args.num_envs, autoreset_mode="SameStep", **ours
        ),
        MASKED: gym.make_vec("CrystalSkeleton-v0", args.num_envs, mask="charge-neutral", **ours),
    }
    rates: dict[str, list[float]] = {name: [] for name in (*singles, *vectors)}
    for turn in range(args.turns):
        for name, env in singles.items():
            rates[name].append(benchmark_step(env, args.seconds, seed=turn))  # type: ignore[arg-type] - a float works
        for name, env in vectors.items():
            rates[name].append(benchmark_vector_step(env, args.seconds, seed=turn))  # type: ignore[arg-type] - a float works
    # Ratios turn by turn: the two measurements of a turn stand side by side.
    ratios = {
        name: statistics.median(a / b for a, b in zip(rates[upper], rates[lower], strict=True))
        for name, upper, lower, _ in RATIOS
    }
    result = {
        "collection": args.collection,
        "num_envs": args.num_envs,
        "steps_per_second": {name: statistics.median(turns) for name, turns in rates.items()},
        "ratios": ratios,
    }
    table = Table("", "steps / s", title=f"{args.collection}, vectors of {args.num_envs}")
    for name, rate in result["steps_per_second"].items():
        table.add_row(name, f"{rate:,.0f}")
    table.add_section()
    for name, _, _, least in RATIOS:
        table.add_row(name, f"{ratios[name]:.2f} (at least {least:g})")
    Console(stderr=True).print(table)
    text = json.dumps(result, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args))
