"""What the tables of the experiments have in common."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crystal_agents.experiments.reproduction.experiment import Line
from crystal_agents.experiments.reproduction.results import Record

# The paper's values are of these crystals.
PAPER_COLLECTION = "perov-5"
INTERVALS = (
    "± is half the 95 % bootstrap interval: over the runs where there are several, over the "
    "crystals where there is one."
)


def crystals_of(records: Sequence[Record]) -> str:
    """What was filled, and how often, for a table's title."""
    first = records[0]
    return (
        f"{Path(first.collection).name}, {first.n_crystals:,} test crystals, "
        "mean over up to five sources, %"
    )


def hardware_of(records: Sequence[Record]) -> list[str]:
    """A note on where something was learned, if anything was."""
    hardware = sorted({record.hardware for record in records if record.epochs})
    return [f"Hardware: {'; '.join(hardware)}."] if hardware else []


def minutes(line: Line) -> str:
    """Mean time of training; nothing where nothing is learned."""
    return f"{np.mean([r.seconds for r in line.records]) / 60:.1f}" if line.epochs else ""
