"""Calibration of a policy, and its accuracy on crystals unlike those it was trained on.

The sets are: a sample of the collection's val split; the same crystals as supercells and as
conventional cells; the crystals after which the AFLOW library names its structure types; Perov-5;
and allotropes of carbon. Crystals of the other sets that match a training crystal are left out and
counted. The split test is not read.

    python benchmarks/out_of_distribution.py mp-20/mpnn --plot mp-20-calibration.png
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import common
import numpy as np
import torch
import tyro
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.special import log_softmax

from crystal_agents import load_policy
from crystal_agents.evaluation.evaluate import evaluate
from crystal_agents.evaluation.rows import ExtraMetrics
from crystal_agents.policies.policy import PolicyScorer, SkeletonPolicy
from crystal_agents.rollouts.rollout import batch_by_size, roll_out
from crystal_gym import load_collection
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.known_crystals import KnownCrystals
from crystal_gym.collections.structures import collection_from_structures
from crystal_gym.episode import EpisodeState, EpisodeTable

_METRICS = ("accuracy", "accuracy_sites", "teacher_forced", "top5", "top5_sites", "ece", "exact")
_BINS = 15


@dataclass
class Args(common.Args):
    """Calibration and accuracy outside the training distribution."""

    policy: tyro.conf.Positional[str] = "mp-20/mpnn"
    """A name from `crystal-gym list`, or the folder of a trained policy."""
    collection: str = "mp-20"
    """The collection that the policy was trained on."""
    crystals: int = 1000
    """Crystals of val and of Perov-5."""
    cells: int = 300
    """Crystals of val that are also filled as supercells and as conventional cells."""
    seed: int = 0
    """Seed of the samples."""
    plot: Path | None = None
    """Also draw the reliability diagram of val to this file."""
    threads: int = 1
    """Threads of PyTorch."""


def carbon_allotropes() -> dict[str, Structure]:
    """Return allotropes of carbon whose coordinates follow from few parameters, by name.

    Cells of diamond, graphite and rhombohedral graphite: R. W. G. Wyckoff, Crystal Structures
    (1963). Lonsdaleite: Bundy and Kasper, J. Chem. Phys. 46, 3437 (1967). bct-C4: Umemoto et al.,
    Phys. Rev. Lett. 104, 125504 (2010).
    """
    cells: dict[str, tuple[str, Lattice, list[list[float]]]] = {
        "diamond": ("Fd-3m", Lattice.cubic(3.567), [[0, 0, 0]]),
        "graphite": (
            "P6_3/mmc",
            Lattice.hexagonal(2.456, 6.696),
            [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25]],
        ),
        "rhombohedral graphite": ("R-3m", Lattice.hexagonal(2.456, 10.044), [[0, 0, 1 / 6]]),
        "lonsdaleite": ("P6_3/mmc", Lattice.hexagonal(2.52, 4.12), [[1 / 3, 2 / 3, 0.0625]]),
        "bct-C4": ("I4/mmm", Lattice.tetragonal(4.329, 2.483), [[0.1804, 0.1804, 0]]),
    }
    return {
        name: Structure.from_spacegroup(group, lattice, ["C"] * len(sites), sites)
        for name, (group, lattice, sites) in cells.items()
    }


def aflow_prototypes() -> list[Structure]:
    """Return the ordered crystals after which AFLOW names its structure types."""
    structures = [entry["snl"].structure for entry in AFLOW_PROTOTYPE_LIBRARY]
    return [structure for structure in structures if structure.is_ordered]


def conventional(structures: Iterable[Structure]) -> Iterator[Structure]:
    """Yield the conventional cells of crystals whose primitive cell is smaller."""
    for structure in structures:
        cell = SpacegroupAnalyzer(structure).get_conventional_standard_structure()
        if len(cell) > len(structure):
            yield cell


def sets(
    args: Args, collection: CrystalCollection
) -> Iterator[tuple[str, list[Structure], Literal["no", "leave out", "count"]]]:
    """Yield the name of each set, its crystals, and what to do with those that are in train."""
    rng = np.random.default_rng(args.seed)
    rows = rng.permutation(collection.in_split("val"))[: args.crystals]
    val = [collection.structure(row) for row in rows.tolist()]
    some = val[: args.cells]
    yield "val", val, "no"
    yield f"{args.cells} of val", some, "no"
    supercells = [cell.make_supercell([2, 1, 1], in_place=False) for cell in some]
    yield "the same in 2 x 1 x 1 supercells", supercells, "no"
    yield "the same in larger conventional cells", list(conventional(some)), "no"
    prototypes = aflow_prototypes()
    limit = collection.max_sites
    small = [structure for structure in prototypes if len(structure) <= limit]
    large = [structure for structure in prototypes if len(structure) > limit]
    yield f"AFLOW, up to {limit} sites", small, "leave out"
    yield f"AFLOW, more than {limit} sites", large, "leave out"
    perov5 = load_collection("perov-5")
    rows = rng.permutation(perov5.in_split("val"))[: args.crystals]
    yield "Perov-5, val", [perov5.structure(row) for row in rows.tolist()], "leave out"
    carbon = [cell.get_primitive_structure() for cell in carbon_allotropes().values()]
    yield "allotropes of carbon", carbon, "count"


class Choices(NamedTuple):
    """The choices of a policy in the expert's states.

    Attributes:
        confidence: Highest probability of each choice, (T,).
        correct: Whether the most probable element is the true one, (T,).
        loss: Negative log-likelihood of the true element, (T,), in another order.
    """

    confidence: np.ndarray
    correct: np.ndarray
    loss: np.ndarray


def choices(policy: SkeletonPolicy, crystals: CrystalCollection) -> Choices:
    """Return the choices of a policy in the expert's states, from one start site."""
    table = EpisodeTable(crystals, policy.vocabulary)
    scorer = PolicyScorer(policy, table)
    confidence, correct, loss = [], [], []

    def score(state: EpisodeState) -> np.ndarray:
        logits = scorer(state)
        true = table.true_elements[state.crystal, state.focus] - 1
        loss.append(-log_softmax(logits, axis=1)[np.arange(len(true)), true])
        return logits

    for batch in batch_by_size(table, np.arange(len(crystals)), 1):
        result = roll_out(table, batch, score, teacher_forced=True)
        confidence.append(result.confidence.ravel())
        correct.append((result.rank == 0).ravel())
    return Choices(*map(np.concatenate, (confidence, correct, loss)))


def reliability(made: Choices) -> list[dict[str, float]]:
    """Return confidence, accuracy and number of choices by bin of confidence."""
    bins = np.clip(np.ceil(made.confidence * _BINS) - 1, 0, _BINS - 1)
    return [
        {
            "confidence": float(made.confidence[bins == k].mean()),
            "accuracy": float(made.correct[bins == k].mean()),
            "choices": int((bins == k).sum()),
        }
        for k in range(_BINS)
        if (bins == k).any()
    ]


def plot(curve: list[dict[str, float]], path: Path) -> None:
    """Draw a reliability diagram."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="gray", linewidth=1, label="perfect calibration")
    axes.plot(
        [point["confidence"] for point in curve],
        [point["accuracy"] for point in curve],
        marker="o",
        markersize=4,
        label="policy",
    )
    axes.set(xlabel="Highest probability", ylabel="Accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def measure(args: Args) -> dict[str, Any]:
    """Evaluate the policy on each set."""
    torch.set_num_threads(args.threads)
    policy = load_policy(args.policy)
    collection = load_collection(args.collection)
    training = KnownCrystals(collection)
    known = set(policy.vocabulary.symbols)
    result: dict[str, Any] = {}
    curve: list[dict[str, float]] = []
    for name, structures, in_train in sets(args, collection):
        allowed = [s for s in structures if {e.symbol for e in s.composition.elements} <= known]
        matches = [in_train != "no" and bool(training.matches(s)) for s in allowed]
        kept = [
            structure
            for structure, match in zip(allowed, matches, strict=True)
            if not (match and in_train == "leave out")
        ]
        crystals = collection_from_structures(
            kept, splits=["val"] * len(kept), name=name, on_error="skip", progress=False
        )
        made = choices(policy, crystals)
        curve = curve or reliability(made)  # that of the first set
        report = evaluate(
            {"policy": [policy]},
            crystals,
            "val",
            n_start_sites=1,
            baselines=False,
            extra=ExtraMetrics(structure_matcher=True),
            seed=args.seed,
            progress=False,
        )
        metrics = report.rows["policy"].metrics
        result[name] = {
            "crystals": len(crystals),
            "sites": int(crystals.n_sites.sum()),
            "most sites": int(crystals.n_sites.max()),
            "unknown elements": len(structures) - len(allowed),
            "in train": None if in_train == "no" else sum(matches),
            "left out": len(allowed) - len(kept),
            "unreadable": len(kept) - len(crystals),
            "mean confidence": float(made.confidence.mean()),
            "negative log-likelihood": float(made.loss.mean()),
            **{
                metric: dataclasses.asdict(metrics[metric])
                for metric in (*_METRICS, "structure_match")
                if metric in metrics
            },
        }
        common.report({name: result[name]})
    if args.plot is not None:
        plot(curve, args.plot)
    return {"sets": result, "reliability of val": curve}


if __name__ == "__main__":
    common.run_script(Args, measure)
