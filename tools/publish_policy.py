"""Put a trained policy into the package: its weights, its description, its card, its checksums.

The card's figures are read from what ``crystal-gym evaluate --json`` wrote:

    crystal-gym evaluate runs/perov-5-egnn-seed-0 --json > test.json
    crystal-gym evaluate runs/perov-5-egnn-seed-0 --split val --json > val.json
    python -m tools.publish_policy runs/perov-5-egnn-seed-0 test.json val.json \
        --hardware "two cores of an AMD EPYC processor"
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from crystal_agents.evaluation.metrics import METRICS
from crystal_agents.policies.policy import CONFIG_FILE, WEIGHTS_FILE, SkeletonPolicy, load_policy
from crystal_agents.policies.pretrained import CARD_FILE, CHECKSUMS_FILE, PACKAGE, read_checksums
from crystal_agents.training.recipes import RECIPES, Recipe
from crystal_gym.collections import COLLECTIONS, describe_collection
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write, sha256

# Of all shipped files together.
MOST_BYTES = 16_000_000


@dataclass(frozen=True)
class Args:
    """Put a trained policy into the package, under the name <collection>/<network>."""

    run: tyro.conf.Positional[Path]
    """Folder of the trained policy."""

    reports: tyro.conf.Positional[tuple[Path, ...]]
    """What `crystal-gym evaluate RUN --json` wrote, of one split or several."""

    hardware: str
    """What it was trained on, for the card."""

    row: str | None = None
    """The policy's row in the reports (default: the name of its network)."""

    command: str | None = None
    """How it was trained (default: told from its record)."""

    package: Path = PACKAGE
    """The folder of shipped policies."""


def ship(args: Args) -> str:
    """Put a trained policy into the package and return its name.

    Files are replaced one by one and the checksums last: where this was stopped, loading the
    policy says so.

    Raises:
        CrystalGymError: the policy is not of a named collection and its own splits or was
            fine-tuned, the reports are of another one or lack the row, the training cannot be told
            as a command, or the package becomes too large.
        DamagedFileError: a report cannot be read.
        StorageError: the package cannot be written.
    """
    policy = load_policy(args.run)
    training = policy.config.training
    collection = training.get("collection")
    if collection not in COLLECTIONS:
        raise CrystalGymError(
            f"{args.run} was trained on {collection!r}; only policies of a named collection are "
            f"shipped: {', '.join(COLLECTIONS)}."
        )
    if training.get("split_by", "origin") != "origin":
        raise CrystalGymError(
            f"{args.run} was trained on {collection!r} split by {training['split_by']}; only "
            "policies of a collection's own splits are shipped."
        )
    if training.get("finetuning"):
        raise CrystalGymError(f"{args.run} was fine-tuned; cards tell only of cloned policies.")
    name = f"{collection}/{policy.config.network}"
    row = args.row or policy.config.network
    reports = [_report(path, collection, row) for path in args.reports]
    command = args.command or training_command(training)
    card = _card(name, policy, reports, row=row, command=command, hardware=args.hardware)
    checksums = read_checksums(args.package)
    args.package.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.package) as fresh:
        # Half the bytes; the loaded policy computes in 32 bits again.
        folder = policy.half().save(fresh)
        (folder / CARD_FILE).write_text(card, "utf-8")
        files = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE)
        _refuse_excess(
            sum((folder / file).stat().st_size for file in files)
            + sum(
                (args.package / other / file).stat().st_size
                for other, listed in checksums.items()
                if other != name
                for file in listed
            )
        )
        checksums[name] = {file: sha256(folder / file) for file in files}
        (args.package / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            (folder / file).replace(args.package / name / file)
    with atomic_write(args.package / CHECKSUMS_FILE) as beside:
        beside.write_text(json.dumps(checksums, indent=2, sort_keys=True) + "\n")
    return name


def training_command(training: Mapping[str, Any]) -> str:
    """The ``crystal-gym train`` that gives such a training record.

    Raises:
        CrystalGymError: no recipe of the package was used.
    """
    recorded = Recipe(**training["recipe"])
    free = {"epochs": recorded.epochs, "learning_rate": recorded.learning_rate}
    same = [name for name, recipe in RECIPES.items() if replace(recipe, **free) == recorded]
    if not same:
        raise CrystalGymError(
            "The policy was trained by no recipe of the package, so the card cannot tell the "
            "command: give it with --command."
        )
    words = ["crystal-gym train", training["collection"], "--recipe", same[0]]
    for key, value in free.items():
        if value != getattr(RECIPES[same[0]], key):
            words += [f"--{key.replace('_', '-')}", str(value)]
    words += ["--trajectories", str(training["trajectories"]), "--seed", str(training["seed"])]
    if training["precision"] != "32-true":
        words += ["--precision", training["precision"]]
    return " ".join(words)


def _refuse_excess(size: int) -> None:
    if size > MOST_BYTES:
        raise CrystalGymError(
            f"The shipped policies would take {size / 1e6:.1f} MB together; "
            f"{MOST_BYTES / 1e6:.0f} MB is the most. Take a smaller network."
        )


def _report(path: Path, collection: str, row: str) -> dict[str, Any]:
    """A report of the evaluation, if it is one of this collection with this row."""
    try:
        report = json.loads(path.read_text("utf-8"))
        found, rows = report["collection"], report["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(
            f"{path} is no report of `crystal-gym evaluate --json`: {error!r}."
        ) from error
    if found != collection or row not in rows:
        raise CrystalGymError(
            f"{path} reports {', '.join(map(repr, rows))} on {found!r}, not {row!r} on "
            f"{collection!r}. Evaluate this policy, or name its row with --row."
        )
    return report


def _card(
    name: str,
    policy: SkeletonPolicy,
    reports: Sequence[Mapping[str, Any]],
    *,
    row: str,
    command: str,
    hardware: str,
) -> str:
    config, training = policy.config, policy.config.training
    parameters = sum(tensor.numel() for tensor in policy.parameters())
    settings = ", ".join(f"{key} {value}" for key, value in config.settings.items())
    facts = {
        "network": f"`{config.network}`, {parameters:,} parameters; "
        f"{settings or 'default settings'}",
        "elements": f"{len(config.symbols)}: {' '.join(config.symbols)}",
        "collection": describe_collection(training["collection"]),
        "data": f"`{training['data']}`, split train: {training['transitions']:,} transitions, "
        f"{training['trajectories']} expert trajectories of each crystal"
        + ("; through synthetic crystals" if training["recipe"]["synthetic"] else ""),
        "training": f"{training['epochs']} epochs, {training['steps']:,} steps, seed "
        f"{training['seed']}, precision {training['precision']}, "
        f"{training['seconds'] / 60:.1f} minutes on {hardware}",
        "command": f"`{command}`",
        "weights": "rounded to 16 bits; the scores below were measured before",
        "licence": "MIT, as crystal-gym",
    }
    lines = [f"# {name}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in facts.items()]
    lines += ["", "```python", "from crystal_agents import load_policy", ""]
    lines += [f'policy = load_policy("{name}")', "```", "", "## Scores", ""]
    for report in reports:
        lines += [*_scores(name, report, row, training["seed"]), ""]
    lines += ["## Use and limits", "", _limits(policy)]
    return "\n".join(lines) + "\n"


def _scores(name: str, report: Mapping[str, Any], row: str, seed: int) -> list[str]:
    own = report["rows"][row]
    over = (
        "over crystals"
        if own["runs"] == 1
        else f"over {own['runs']} runs that differ in their seed; the weights here are of seed "
        f"{seed}"
    )
    others = [other for other in report["rows"] if other != row]
    what = (
        f"{report['n_crystals']:,} crystals, up to {report['n_start_sites']} start sites each, in "
        f"percent; 95 % bootstrap interval {over}. "
        f"`crystal-gym evaluate {name} --split {report['split']}` gives the figures of these "
        "weights."
    )
    lines = [
        f"### {report['split'].capitalize()}",
        "",
        what,
        "",
        f"| figure | {' | '.join(['this policy', '95 %', *others, 'meaning'])} |",
        f"|---|{'---:|' * (2 + len(others))}---|",
    ]
    for figure, value in own["figures"].items():
        low, high = _percent(value["low"]), _percent(value["high"])
        interval = f"{low} to {high}" if low != high else ""
        beside = [
            _percent(report["rows"][other]["figures"].get(figure, {}).get("mean"))
            for other in others
        ]
        cells = [_percent(value["mean"]), interval, *beside, METRICS.get(figure, "")]
        lines.append(f"| {figure} | {' | '.join(cells)} |")
    by_site = ", ".join(_percent(site) for site in own["per_site"])
    return [*lines, "", f"Accuracy by site: {by_site}."]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _limits(policy: SkeletonPolicy) -> str:
    collection = policy.config.training["collection"]
    return f"""\
- For proposing elements on the sites of crystals like those of `{collection}`
  (cells of up to {policy.config.max_sites} sites), and as a start or a yardstick for other agents.
- It chooses among its {len(policy.vocabulary)} elements alone.
  On other kinds of crystals nothing was measured.
- It clones crystals that are in the data: a probable filling need not be a stable compound, nor is
  a valid composition the proof of one. Energies were not learned.
- The geometry must be at hand, and it tells much of what the elements are: a guessed cell misleads
  the policy."""


def main() -> None:
    """Ship what the command line names."""
    try:
        name = ship(tyro.cli(Args))
    except CrystalGymError as error:
        raise SystemExit(str(error)) from error
    print(f"Shipped as {name}.")


if __name__ == "__main__":
    main()
