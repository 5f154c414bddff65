"""Texts that the tables of the reproduction share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crystal_agents.experiments.reproduction.experiment import RunGroup
from crystal_agents.experiments.reproduction.results import ReproductionRecord

# The paper reports results on this collection only.
PAPER_COLLECTION = "perov-5"
INTERVALS_NOTE = (
    "± is half the width of the 95 % bootstrap interval: over the runs of a row, or over the "
    "crystals if the row has a single run."
)


def describe_crystals(records: Sequence[ReproductionRecord]) -> str:
    """Describe the test crystals and their episodes for the title of a table."""
    first = records[0]
    return (
        f"{Path(first.collection).name}, {first.n_crystals:,} test crystals, "
        "mean over up to five start sites, %"
    )


def hardware_notes(records: Sequence[ReproductionRecord]) -> list[str]:
    """Return a note on the hardware of the training runs, or no note without any."""
    hardware = sorted({record.hardware for record in records if record.epochs})
    return [f"Hardware: {'; '.join(hardware)}."] if hardware else []


def mean_minutes(group: RunGroup) -> str:
    """Format the mean training time in minutes; empty without training."""
    if not group.epochs:
        return ""
    return f"{np.mean([record.seconds for record in group.records]) / 60:.1f}"
