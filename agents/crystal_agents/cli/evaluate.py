"""``crystal-gym evaluate POLICY``: fill held-out crystals and print the table."""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from crystal_agents.evaluation.evaluate import Report
    from crystal_agents.evaluation.statistics import MeanWithCI
    from crystal_agents.policies.policy import SkeletonPolicy
    from crystal_agents.rollouts.rollout import Scorer
    from crystal_gym.episode import EpisodeTable

# Headings of the table, to be broken over two lines.
_COLUMNS = {
    "accuracy": "accuracy",
    "teacher_forced": "teacher\nforced",
    "top5": "top 5",
    "ece": "ECE",
    "exact": "exact",
    "symmetry": "up to\nsymm.",
    "swap": "swap\naware",
    "validity_smact14": "valid",
    "validity_icsd24": "valid\nicsd24",
    "validity_strict": "valid\nstrict",
    "unique": "unique",
    "novel": "novel",
}


@dataclass
class Evaluate(Command):
    """Fill the crystals of a split with trained policies, beside floors and the true crystals.

    Several policies that differ only in their seed are averaged: intervals are then over runs, else
    over crystals (95 %, bootstrap).
    """

    after_stop: ClassVar[str] = "Nothing was written."

    policies: tyro.conf.Positional[tuple[str, ...]]
    """Trained policies: names from `crystal-gym list`, or folders, as `crystal-gym train` prints
    them."""

    collection: str | None = None
    """The crystals to fill (default: the collection that the first policy learned from last)."""

    split: str = "test"
    """train, val, test or all. Choose between policies on val; report test once. On train and all
    the nearest skeleton of a training crystal is itself, and nothing is novel."""

    split_by: Literal["origin", "composition"] | None = None
    """Which splits: the source's own, or those where all crystals of one composition stand in one
    (default: those that the first policy was trained on)."""

    start_sites: int = 5
    """Start sites per crystal; figures are averaged over them."""

    floors: bool = True
    """Also report the floors and the true crystals."""

    ensemble: bool = False
    """Also report the mean of several runs of one network, on a line of its own."""

    posterior: bool = False
    """Also report Bayes' rule with the density p(geometry | elements) of the collection's
    prototype, fitted to its data set expert-train (minutes, where that was not done before)."""

    mask: str = "none"
    """Also report each policy under this action mask, on a line of its own: `charge-neutral`."""

    seed: int = 0
    """Of the sources, where a crystal has more sites than are used, and of the uniform floor."""

    json: bool = False
    """Print all figures as JSON."""

    def run(self) -> None:
        """Evaluate and print."""
        from crystal_agents.evaluation.evaluate import evaluate
        from crystal_agents.policies.policy import load_policy
        from crystal_gym.collections import canonical_origin, load_collection
        from crystal_gym.errors import CrystalGymError

        if not self.policies:
            raise CrystalGymError("Name at least one trained policy, or its folder.")
        loaded = {Path(origin): load_policy(origin) for origin in self.policies}
        first = next(iter(loaded.values()))
        learned_from = first.config.learned_from
        origin = self.collection or next(reversed(learned_from), None)
        if origin is None:
            raise CrystalGymError(
                f"{self.policies[0]} does not tell its collection; name it with --collection."
            )
        address = canonical_origin(origin)
        split_by = self.split_by or learned_from.get(address, "origin")
        if self.split != "all":
            for folder, policy in loaded.items():
                _refuse_other_splits(folder, policy, address, split_by)
        collection = load_collection(origin, split_by=split_by)
        runs = runs_by_name(loaded)
        report = evaluate(
            runs,
            collection,
            self.split,
            rules=self._rules(runs, collection.name),
            mask=self.mask,
            n_start_sites=self.start_sites,
            floors=self.floors,
            seed=self.seed,
        )
        if self.json:
            json.dump(_plain(dataclasses.asdict(report)), sys.stdout, indent=2)
            print()
        else:
            console().print(report_table(report))

    def _rules(
        self, runs: "Mapping[str, list[SkeletonPolicy]]", collection: str
    ) -> "dict[str, Callable[[EpisodeTable], Scorer]]":
        """Ways of filling beside the single policies."""
        from crystal_agents.policies.ensemble import EnsembleScorer

        rules: dict[str, Callable[[EpisodeTable], Scorer]] = {}
        for name, policies in runs.items():
            if self.ensemble and len(policies) > 1:
                rules[f"ensemble of {len(policies)} {name}"] = partial(EnsembleScorer, policies)
        if self.posterior:
            from crystal_agents.synthetic import SyntheticGenerator
            from crystal_agents.synthetic.posterior_scorer import PosteriorScorer
            from crystal_datasets import dataset_id, load_transitions

            model = SyntheticGenerator(load_transitions(dataset_id(collection, "train")))
            rules["posterior"] = partial(PosteriorScorer, model)
        return rules


def _refuse_other_splits(
    folder: Path, policy: "SkeletonPolicy", address: str, split_by: str
) -> None:
    """Crystals that one way of splitting holds out are training crystals of another.

    Raises:
        CrystalGymError: the policy learned from this collection, split in another way.
    """
    from crystal_gym.errors import CrystalGymError

    before = policy.config.learned_from.get(address, split_by)
    if before != split_by:
        raise CrystalGymError(
            f"{folder} was trained on {address} split by {before}: it has seen many of "
            f"the crystals that are held out by {split_by}. Evaluate it with --split-by "
            f"{before}, or train a policy with --split-by {split_by}."
        )


# What differs between the runs of one experiment; `policy`: what a fine-tuning began from.
_OF_A_RUN = ("seed", "seconds", "train_accuracy", "val_accuracy", "policy")


def runs_by_name(policies: Mapping[Path, "SkeletonPolicy"]) -> "dict[str, list[SkeletonPolicy]]":
    """Policies that differ only in their seed, by the name of their network.

    Where one network was trained in several ways, the folders tell them apart.
    """
    experiments: dict[str, list[Path]] = {}
    for folder, policy in policies.items():
        config = dataclasses.asdict(policy.config)
        for stage in (config["training"], *config["training"].get("finetuning", [])):
            for key in _OF_A_RUN:
                stage.pop(key, None)
            stage.setdefault("split_by", "origin")
        experiments.setdefault(json.dumps(config, sort_keys=True), []).append(folder)
    networks = [policies[folders[0]].config.network for folders in experiments.values()]
    return {
        network if networks.count(network) == 1 else f"{network}, {folders[0].name}": [
            policies[folder] for folder in folders
        ]
        for network, folders in zip(networks, experiments.values(), strict=True)
    }


# With more, the second table would be too wide.
_FEW_SITES = 6


def report_table(report: "Report") -> "Group":
    """The figures in percent, with the half width of the 95 % interval where there is one.

    A second table tells the sites apart, where they are few.
    """
    from rich.console import Group
    from rich.table import Table

    table = Table(
        f"{report.collection}, {report.split}",
        title=f"{report.n_crystals:,} crystals, mean over up to {report.n_start_sites} sources, %",
        caption="± half the 95 % bootstrap interval, over runs or over the crystals of one run; "
        "all intervals: --json",
    )
    shown = [name for name in _COLUMNS if any(name in row.metrics for row in report.rows.values())]
    for name in shown:
        table.add_column(_COLUMNS[name], justify="right", no_wrap=True)
    for name, row in report.rows.items():
        cells = [_percent(row.metrics.get(figure)) for figure in shown]
        accuracy = row.metrics["accuracy"]
        half = 50 * (accuracy.high - accuracy.low)
        cells[0] += f" ± {half:.2f}" if half else ""
        table.add_row(f"{name} ({row.runs} runs)" if row.runs > 1 else name, *cells)
    few_sites = len(next(iter(report.rows.values())).per_site) <= _FEW_SITES
    return Group(table, _site_table(report)) if few_sites else Group(table)


def _site_table(report: "Report") -> "Table":
    from rich.table import Table

    table = Table("by site", title="Each site by itself, in the order of the crystals' sites, %")
    for heading in ("accuracy", "top 5", "ECE"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in report.rows.items():
        metrics = (row.per_site, row.top5_per_site, row.ece_per_site)
        table.add_row(
            name,
            *(" ".join(f"{100 * site:4.1f}" for site in figure or ()) for figure in metrics),
        )
    return table


def _percent(estimate: "MeanWithCI | None") -> str:
    return "" if estimate is None else f"{100 * estimate.mean:.2f}"


def _plain(value: Any) -> Any:
    """NaN is no JSON: it becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
