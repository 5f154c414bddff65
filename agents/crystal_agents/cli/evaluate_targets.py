"""``crystal-gym evaluate-targets POLICY``: compare requested with measured labels."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import tyro

from crystal_agents.cli.command import Command, console, print_table
from crystal_agents.cli.policy_collection import PolicyCollection

if TYPE_CHECKING:
    from crystal_agents.evaluation.targets import TargetReport
    from crystal_agents.experiments.tables import Table
    from crystal_agents.policies.policy import SkeletonPolicy
    from crystal_gym.collections.collection import CrystalCollection
    from crystal_gym.masks import Mask


@dataclass
class EvaluateTargets(Command):
    """Ask a conditional policy for values of a label and look up the labels of what it fills.

    The policy is one of `crystal-gym train --target`. Each skeleton of the split is filled greedily
    from one start site, once for each guidance and value.
    """

    after_stop: ClassVar[str] = "Nothing was written."

    policy: tyro.conf.Positional[str]
    """The conditional policy: a folder that `crystal-gym train --target` has written."""

    label: str | None = None
    """The label (default: the first one of the policy)."""

    values: tuple[float, ...] = ()
    """Requested values (default: percentiles of the training labels, from 0.5 to 99.5)."""

    guidance: tuple[float, ...] = (0.0, 1.0, 2.0)
    """Strengths w of the guidance: logits = (1 + w) conditional - w unconditional."""

    reward: str = ""
    """Also measure the return of this reward, such as perov5-dft."""

    design_space: bool = False
    """Only allow combinations of elements that occur in the training crystals."""

    collection: str | None = None
    """The crystals (default: the collection of the policy's training)."""

    split: str = "test"
    """train, val, test or all. Choose guidance and value on val; report test once."""

    split_by: str | None = None
    """The splits: origin, composition, prototype, random:SEED or a file (default: those of the
    training)."""

    on_error: Literal["raise", "skip"] = "raise"
    """Stop at crystals that cannot be read, or leave them out with a warning."""

    folder: Path | None = None
    """Folder of the report (targets.json), the table and the plot (default: only print)."""

    def run(self) -> None:
        """Evaluate, print the table, and write the files."""
        from crystal_agents.evaluation.target_summary import save_calibration
        from crystal_agents.evaluation.targets import PERCENTILES, evaluate_targets
        from crystal_agents.policies.policy import load_policy
        from crystal_gym.utils.files import atomic_write
        from crystal_gym.utils.progress import progress_bar

        policy = load_policy(self.policy)
        chosen = PolicyCollection.of(
            policy, self.policy, self.collection, self.split_by, self.on_error
        )
        if self.split != "all":
            chosen.require_same_splits(policy, self.policy)
        collection = chosen.load()
        note = chosen.compare(policy, self.policy, collection, any_splits=self.split == "all")
        n_rows = 1 + len(self.guidance) * len(self.values or PERCENTILES)
        with progress_bar("Filling crystals", n_rows, shown=True) as advance:
            report = evaluate_targets(
                policy,
                collection,
                self.split,
                label=self.label,
                values=self.values,
                guidance=self.guidance,
                reward=self.reward,
                mask=self._mask(policy, collection),
                advance=advance,
            )
        table = targets_table(report)
        print_table(table)
        if note is not None:
            console().print(f"Note: {note}")
        if self.folder is None:
            return
        record: dict[str, Any] = dataclasses.asdict(report) | {
            "collection": chosen.canonical,
            "design_space": self.design_space,
        }
        with atomic_write(self.folder / "targets.json") as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        table.save(self.folder / "targets.md")
        plot = save_calibration([report], self.folder / "targets.png")
        console().print(str(plot), soft_wrap=True)

    def _mask(self, policy: "SkeletonPolicy", collection: "CrystalCollection") -> "str | Mask":
        if not self.design_space:
            return "none"
        from crystal_agents.synthetic.design_space_mask import DesignSpaceMask
        from crystal_gym.episode import EpisodeTable

        table = EpisodeTable(collection, policy.vocabulary)
        return DesignSpaceMask(table, collection.in_split("train"))


def targets_table(report: "TargetReport") -> "Table":
    """Return the table of a report, fractions in percent."""
    from crystal_agents.experiments.tables import Table

    percentages = ["labeled", "validity_strict", "unique", "novel", "accuracy"]
    headings = ("guidance", "asked", "measured", "deviation", "error", *percentages)
    rows: list[tuple[str, ...]] = []
    for row in report.rows:
        cells = ["–" if row.asked is None else f"{row.guidance:g}"]
        cells += ["–" if row.asked is None else f"{row.asked:.2f}"]
        cells += [f"{row.measured:.2f}", f"{row.deviation:.2f}"]
        cells += ["–" if row.asked is None else f"{row.error:.2f}"]
        cells += [f"{100 * row.metrics[name]:.1f}" for name in percentages]
        cells += [f"{row.metrics['return']:.3f}"] if report.reward else []
        rows.append(tuple(cells))
    notes = [
        f"Correlation of asked and measured with guidance {strength:g}: {value:.3f}."
        for strength, value in report.correlation.items()
    ]
    if report.reward:
        notes.append(f"return: mean return of {report.reward}.")
    title = f"{report.label}, {report.n_crystals:,} skeletons of {report.split}, fractions in %"
    return Table(title, headings + (("return",) if report.reward else ()), rows, notes)
