"""``crystal-gym evaluate POLICY``: evaluate policies on held-out crystals."""

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

from crystal_agents.cli.cluster_command import ClusterCommand
from crystal_agents.cli.command import console
from crystal_agents.cli.kept_sites import parse_keep
from crystal_agents.cli.policy_collection import PolicyCollection
from crystal_agents.cli.target_values import parse_targets

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from crystal_agents.evaluation.evaluate import Report
    from crystal_agents.evaluation.statistics import MeanWithCI
    from crystal_agents.policies.policy import SkeletonPolicy
    from crystal_agents.rollouts.rollout import Scorer
    from crystal_gym.collections.collection import CrystalCollection
    from crystal_gym.episode import EpisodeTable

# Headings of the metrics, broken over two lines to keep the table narrow.
_HEADINGS = {
    "accuracy": "accuracy",
    "teacher_forced": "teacher\nforced",
    "top5": "top 5",
    "ece": "ECE",
    "exact": "exact",
    "symmetry": "symm.\nequiv.",
    "swap": "best\nswap",
    "validity_smact14": "valid",
    "validity_icsd24": "valid\nicsd24",
    "validity_strict": "valid\nstrict",
    "unique": "unique",
    "novel": "novel",
}

# Headings of the second table.
_FURTHER_HEADINGS = {
    "accuracy_sites": "accuracy,\nall sites",
    "teacher_forced_sites": "teacher forced,\nall sites",
    "top5_sites": "top 5,\nall sites",
    "composition": "true\ncomposition",
    "structure_match": "structure\nmatch",
    "beam": "in beam",
    "beam_symmetry": "in beam,\nsymm. equiv.",
}


@dataclass
class Evaluate(ClusterCommand):
    """Evaluate policies on the crystals of a split, beside baselines and the ground truth.

    Policies that differ only in their seed are averaged. Intervals are 95 % bootstrap intervals,
    over the runs if there are several and over the crystals otherwise.
    """

    after_stop: ClassVar[str] = "Nothing was written."

    policies: tyro.conf.Positional[tuple[str, ...]]
    """Trained policies: names from `crystal-gym list`, or folders that `crystal-gym train` has
    written."""

    collection: str | None = None
    """The crystals (default: the collection of the first policy's last training stage)."""

    split: str = "test"
    """train, val, test or all. Choose between policies on val; report test once. On train and all,
    the nearest skeleton of a training crystal is its own."""

    split_by: str | None = None
    """The splits: origin, composition, prototype, random:SEED or a file (default: those of the
    first policy's training; others are refused, because they hold out crystals of the training)."""

    on_error: Literal["raise", "skip"] = "raise"
    """Stop at crystals that cannot be read, or leave them out with a warning."""

    start_sites: int = 5
    """Start sites for each crystal; metrics are averaged over them."""

    baselines: bool = True
    """Also evaluate the baselines and the ground truth."""

    ensemble: bool = False
    """Also evaluate the mean of several runs of one network, in a row of its own."""

    site_by_site: bool = False
    """Also evaluate each policy without its earlier choices as evidence, in a row of its own."""

    posterior: bool = False
    """Also evaluate Bayes' rule with the density p(geometry | elements) of the collection's
    prototype, fitted to the dataset expert-train (takes minutes unless it is cached), with and
    without site numbers, and with and without the chosen elements as evidence."""

    mask: str = "none"
    """Also evaluate each policy and baseline under this action mask, in a row of its own:
    `charge-neutral`; `charge-neutral-common`, with common oxidation states only; or `composition`,
    which leaves the elements of the crystal to be placed."""

    start: Literal["empty", "partial"] = "empty"
    """Start from empty skeletons, or with the true elements on the sites of --keep. Accuracies are
    those of the other sites."""

    keep: str | None = None
    """For --start partial: the fraction of the sites to keep, such as 0.5 (default), or their
    numbers, such as 0,3."""

    target: tuple[str, ...] = ()
    """Requested values of conditional policies, such as heat_all=-0.2; see also
    `evaluate-targets`."""

    guidance: float = 0.0
    """Strength w of the guidance by the target: logits = (1 + w) conditional - w unconditional."""

    crystals: int | None = None
    """Evaluate a random sample of this many crystals (default: the whole split)."""

    by: tuple[Literal["element", "class", "n_sites", "crystal_system"], ...] = ()
    """Also report the accuracies of groups of sites: by true element, by class (anion, cation or
    metal), by number of sites of the crystal, or by its crystal system."""

    structure_matcher: bool = False
    """Also report how many filled crystals match the true one by pymatgen's StructureMatcher with
    the tolerances of CDVAE."""

    beam: int | None = None
    """Also report how often the true filling is among the most probable ones of a beam search of
    this width."""

    seed: int = 0
    """Seed of the sample of crystals, of the start sites, where a crystal has more than are used,
    of the kept sites and of the uniform baseline."""

    json: bool = False
    """Print all metrics as JSON, with the fingerprint of the crystals, the seeds of the trainings,
    hardware and versions."""

    def run(self) -> None:
        """Evaluate and print the table."""
        from crystal_agents.evaluation.evaluate import evaluate
        from crystal_agents.evaluation.rows import ExtraMetrics
        from crystal_agents.policies.policy import load_policy
        from crystal_gym.errors import CrystalGymError

        if not self.policies:
            raise CrystalGymError(
                "Expected at least one policy, got none. Pass the name or folder of a policy."
            )
        loaded = {Path(name): load_policy(name) for name in self.policies}
        first = next(iter(loaded.values()))
        chosen = PolicyCollection.of(
            first, self.policies[0], self.collection, self.split_by, self.on_error
        )
        any_splits = self.split == "all"
        if not any_splits:
            for folder, policy in loaded.items():
                chosen.require_same_splits(policy, str(folder))
        collection = chosen.load()
        notes = [
            note
            for folder, policy in loaded.items()
            if (note := chosen.compare(policy, str(folder), collection, any_splits=any_splits))
        ]
        runs = runs_by_name(loaded)
        report = evaluate(
            runs,
            collection,
            self.split,
            rules=self._rules(runs, chosen, collection),
            mask=self.mask,
            target=parse_targets(self.target),
            guidance=self.guidance,
            start=self.start,
            keep=parse_keep(self.keep),
            n_start_sites=self.start_sites,
            baselines=self.baselines,
            n_crystals=self.crystals,
            extra=ExtraMetrics(self.by, self.structure_matcher, self.beam),
            seed=self.seed,
        )
        if self.json:
            import torch

            from crystal_agents.experiments.provenance import provenance

            settings = {
                "policies": {str(folder): _training(loaded[folder]) for folder in loaded},
                "origin": chosen.canonical,
                "split_by": chosen.split_by,
                "start": self.start,
                "keep": self.keep,
                "mask": self.mask,
                "beam": self.beam,
                "crystals": self.crystals,
                "seed": self.seed,
                "notes": notes,
                **provenance(torch.device("cpu")),
            }
            json.dump(_without_nan(dataclasses.asdict(report) | settings), sys.stdout, indent=2)
            print()
            return
        out = console()
        out.print(report_table(report))
        for note in notes:
            out.print(f"Note: {note}")
        if notes:
            out.print(
                f"Note: `novel` and the baselines refer to the train split of {collection.name}."
            )

    def _rules(
        self,
        runs: "Mapping[str, list[SkeletonPolicy]]",
        chosen: PolicyCollection,
        collection: "CrystalCollection",
    ) -> "dict[str, Callable[[EpisodeTable], Scorer]]":
        """Return the scorers that are evaluated beside the single policies."""
        from crystal_agents.policies.ensemble import EnsembleScorer
        from crystal_agents.policies.site_by_site import SiteBySiteScorer

        rules: dict[str, Callable[[EpisodeTable], Scorer]] = {}
        for name, policies in runs.items():
            if self.ensemble and len(policies) > 1:
                rules[f"ensemble of {len(policies)} {name}"] = partial(EnsembleScorer, policies)
            for policy in policies if self.site_by_site else ():
                seed = f", seed {policy.config.training.get('seed')}" if len(policies) > 1 else ""
                rules[f"{name}, site by site{seed}"] = partial(SiteBySiteScorer, policy)
        if self.posterior:
            from crystal_agents.synthetic import SyntheticGenerator
            from crystal_agents.synthetic.posterior_scorer import PosteriorScorer
            from crystal_agents.training.data import load_split

            data = load_split(collection, chosen.origin, "train", split_by=chosen.split_by)
            generator = SyntheticGenerator(data)
            for numbered in (True, False):
                name = "posterior" if numbered else "posterior without site numbers"
                rule = partial(PosteriorScorer, generator, numbered=numbered)
                rules[name] = rule
                rules[f"{name}, site by site"] = partial(rule, evidence=False)
        return rules


def _training(policy: "SkeletonPolicy") -> dict[str, Any]:
    """Return the seed of a policy's training, and whether it was fine-tuned with a reward."""
    training = policy.config.training
    return {"seed": training.get("seed"), "finetuned": bool(training.get("finetuning"))}


# Settings that differ between the runs of one experiment; `policy` is the start of fine-tuning.
_RUN_SETTINGS = ("seed", "seconds", "train_accuracy", "val_accuracy", "policy")


def runs_by_name(policies: Mapping[Path, "SkeletonPolicy"]) -> "dict[str, list[SkeletonPolicy]]":
    """Group the policies that differ only in their seed, by the name of their network.

    Where one network was trained in several ways, the name includes the first folder.
    """
    experiments: dict[str, list[Path]] = {}
    for folder, policy in policies.items():
        config = dataclasses.asdict(policy.config)
        for stage in (config["training"], *config["training"].get("finetuning", [])):
            for key in _RUN_SETTINGS:
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


# Rows that the tables of groups leave out, to keep them narrow.
_ROWS_WITHOUT_GROUPS = (
    "uniform",
    "most frequent element",
    "most frequent per site",
    "ground truth",
)
# Sites above which the table by site would be too wide.
_MOST_SITES = 6


def report_table(report: "Report") -> "Group":
    """Return the metrics in percent, with half the 95 % interval of the accuracy.

    A second table gives the metrics by site if there are at most six sites.
    """
    from rich.console import Group
    from rich.table import Table

    shown = [name for name in _HEADINGS if any(name in row.metrics for row in report.rows.values())]
    caption = (
        "± half the 95 % bootstrap interval, over runs or over the crystals of one run; "
        "--json prints all intervals"
    )
    if report.n_symmetry_failures:
        caption += (
            f"; {report.n_symmetry_failures:,} skeletons without a space group count as asymmetric"
        )
    rules = [
        description
        for rule, description in report.validity_rules.items()
        if f"validity_{rule}" in shown
    ]
    caption = "\n".join([caption, "Validity rules:", *rules])
    table = Table(
        f"{report.collection}, {report.split}",
        title=f"{report.n_crystals:,} crystals, {report.n_start_sites} start sites at most, in %",
        caption=caption,
    )
    for name in shown:
        table.add_column(_HEADINGS[name], justify="right", no_wrap=True)
    for label, row in report.rows.items():
        cells = [_percent(row.metrics.get(name)) for name in shown]
        accuracy = row.metrics["accuracy"]
        half = 50 * (accuracy.high - accuracy.low)
        cells[0] += f" ± {half:.2f}" if half else ""
        table.add_row(f"{label} ({row.runs} runs)" if row.runs > 1 else label, *cells)
    further = Table(f"{report.collection}, {report.split}", title="Further metrics, in %")
    names = [n for n in _FURTHER_HEADINGS if any(n in row.metrics for row in report.rows.values())]
    for name in names:
        further.add_column(_FURTHER_HEADINGS[name], justify="right", no_wrap=True)
    for label, row in report.rows.items():
        further.add_row(label, *(_percent(row.metrics.get(name)) for name in names))
    few_sites = len(next(iter(report.rows.values())).per_site) <= _MOST_SITES
    groups = next(iter(report.rows.values())).groups
    return Group(
        table,
        further,
        *([_site_table(report)] if few_sites else []),
        *(_group_table(report, name) for name in groups),
    )


def _group_table(report: "Report", grouping: str) -> "Table":
    """Return the metrics of the groups of one grouping, in percent."""
    from rich.table import Table

    title = f"By {grouping.replace('_', ' ')}, means over sites in %"
    table = Table(grouping.replace("_", " "), "sites", "crystals", title=title)
    rows = {name: row.groups[grouping] for name, row in report.rows.items() if row.groups}
    first = next(iter(rows.values()))
    columns = [
        (name, metric)
        for name, groups in rows.items()
        if name.removesuffix(", masked") not in _ROWS_WITHOUT_GROUPS
        for metric in next(iter(groups.values())).metrics
    ]
    for name, metric in columns:
        table.add_column(f"{name},\n{_HEADINGS[metric].replace(chr(10), ' ')}", justify="right")
    for label, group in first.items():
        values = [_percent(rows[name][label].metrics[metric]) for name, metric in columns]
        table.add_row(label, f"{group.n_sites:,}", f"{group.n_crystals:,}", *values)
    return table


def _site_table(report: "Report") -> "Table":
    from rich.table import Table

    table = Table("by site", title="Metrics of each site, in the order of the crystals' sites, %")
    for heading in ("accuracy", "top 5", "ECE"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in report.rows.items():
        metrics = (row.per_site, row.top5_per_site, row.ece_per_site)
        table.add_row(
            name,
            *(" ".join(f"{100 * value:4.1f}" for value in values or ()) for values in metrics),
        )
    return table


def _percent(estimate: "MeanWithCI | None") -> str:
    return "" if estimate is None else f"{100 * estimate.mean:.2f}"


def _without_nan(value: Any) -> Any:
    """Replace NaN, which JSON lacks, by null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
