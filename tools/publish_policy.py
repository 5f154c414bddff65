"""Add a trained policy to the package: weights, configuration, model card and checksums.

The metrics of the model card are read from reports of ``crystal-gym evaluate --json``:

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
from crystal_agents.training.training_stages import FINGERPRINT
from crystal_gym.collections import COLLECTIONS, describe_collection
from crystal_gym.errors import CollectionMismatchError, CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write, sha256
from crystal_gym.utils.identity import describe_crystals

# Metrics of other crystals in a model card.
_OTHER_METRICS = ("accuracy", "teacher_forced", "top5", "ece")
# Maximum size of all pretrained policies together.
MOST_BYTES = 32_000_000


@dataclass(frozen=True)
class PublishArgs:
    """Add a trained policy to the package under the name <collection>/<network>, or another."""

    run: tyro.conf.Positional[Path]
    """Folder of the trained policy."""

    reports: tyro.conf.Positional[tuple[Path, ...]]
    """Outputs of `crystal-gym evaluate RUN --json`, one for each split."""

    hardware: str
    """Hardware of the training, for the model card."""

    name: str | None = None
    """Name of the policy in its collection (default: the name of its network)."""

    row: str | None = None
    """Row of the policy in the reports (default: the name of its network)."""

    command: str | None = None
    """Command of the training (default: derived from the training record)."""

    other_crystals: Path | None = None
    """Output of `benchmarks/out_of_distribution.py --json`, for a table in the model card."""

    package: Path = PACKAGE
    """Folder of the pretrained policies."""


def publish(args: PublishArgs) -> str:
    """Add a trained policy to the package and return its name.

    Files are replaced one by one, and the checksums last. After an interruption, loading the policy
    raises an error about its checksums.

    Args:
        args: The policy, its reports and the package.

    Raises:
        CrystalGymError: If the policy was not trained on the splits of a named collection, or was
            fine-tuned; if a report is of another collection or lacks the row; if the command cannot
            be derived from the training record; or if the package becomes too large.
        CollectionMismatchError: If a report is on other crystals than those of the training.
        DamagedFileError: If a report cannot be read.
        StorageError: If the package cannot be written.
    """
    policy = load_policy(args.run)
    _check_training(policy, args.run)
    training = policy.config.training
    name = f"{training['collection']}/{args.name or policy.config.network}"
    row = args.row or policy.config.network
    reports = [_read_report(path, training, row) for path in args.reports]
    command = args.command or training_command(training)
    others = None if args.other_crystals is None else _read_other_crystals(args.other_crystals)
    card = model_card(
        name, policy, reports, row=row, command=command, hardware=args.hardware, others=others
    )
    checksums = read_checksums(args.package)
    args.package.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.package) as temporary:
        # Weights of 16 bits halve the file size; a loaded policy computes in 32 bits.
        folder = policy.half().save(temporary)
        (folder / CARD_FILE).write_text(card, "utf-8")
        files = (WEIGHTS_FILE, CONFIG_FILE, CARD_FILE)
        sizes = [(folder / file).stat().st_size for file in files]
        for other in checksums.keys() - {name}:
            sizes += [(args.package / other / file).stat().st_size for file in checksums[other]]
        _check_size(sum(sizes))
        checksums[name] = {file: sha256(folder / file) for file in files}
        (args.package / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            (folder / file).replace(args.package / name / file)
    with atomic_write(args.package / CHECKSUMS_FILE) as path:
        path.write_text(json.dumps(checksums, indent=2, sort_keys=True) + "\n")
    return name


def training_command(training: Mapping[str, Any]) -> str:
    """Return the ``crystal-gym train`` command that reproduces a training.

    Args:
        training: The training record of a policy.

    Raises:
        CrystalGymError: If the recipe is not one of the package.
    """
    remedy = "Give the command with --command."
    try:
        recorded = Recipe.from_record(training["recipe"])
    except TypeError as error:
        raise CrystalGymError(
            f"Expected a recipe of this version in the training record: {error}. {remedy}"
        ) from error
    options = {"epochs": recorded.epochs, "learning_rate": recorded.learning_rate}
    names = [name for name, recipe in RECIPES.items() if replace(recipe, **options) == recorded]
    if not names:
        raise CrystalGymError(
            f"Expected a recipe of the package in the training record, got {recorded}. {remedy}"
        )
    words = ["crystal-gym train", training["collection"], "--recipe", names[0]]
    for key, value in options.items():
        if value != getattr(RECIPES[names[0]], key):
            words += [f"--{key.replace('_', '-')}", str(value)]
    words += ["--trajectories", str(training["trajectories"]), "--seed", str(training["seed"])]
    if training["precision"] != "32-true":
        words += ["--precision", training["precision"]]
    return " ".join(words)


def model_card(
    name: str,
    policy: SkeletonPolicy,
    reports: Sequence[Mapping[str, Any]],
    *,
    row: str,
    command: str,
    hardware: str,
    others: Mapping[str, Any] | None = None,
) -> str:
    """Return the model card of a policy as Markdown.

    Args:
        name: Name of the policy.
        policy: The policy.
        reports: Reports of ``crystal-gym evaluate --json``, one for each split.
        row: Row of the policy in the reports.
        command: Command of the training.
        hardware: Hardware of the training.
        others: Metrics of sets of other crystals, by name of the set.
    """
    config, training = policy.config, policy.config.training
    parameters = sum(tensor.numel() for tensor in policy.parameters())
    settings = ", ".join(f"{key} {value}" for key, value in config.settings.items())
    synthetic = (
        "; the policy was trained on synthetic crystals sampled from a density of these crystals"
        if training["recipe"]["synthetic"]
        else ""
    )
    properties = {
        "network": f"`{config.network}`, {parameters:,} parameters; "
        f"{settings or 'default settings'}",
        "vocabulary": f"{len(config.symbols)} elements: {' '.join(config.symbols)}",
        "collection": describe_collection(training["collection"]),
        "dataset": f"`{training['data']}`, split train: {training['transitions']:,} transitions, "
        f"{training['trajectories']} expert trajectories per crystal{synthetic}",
        "training": f"behavioral cloning, {training['epochs']} epochs, {training['steps']:,} "
        f"steps, seed {training['seed']}, precision {training['precision']}, "
        f"{training['seconds'] / 60:.1f} minutes on {hardware}",
        "command": f"`{command}`",
        "weights": "rounded to 16 bits after the evaluation below",
        "license": "MIT, as crystal-gym; the crystals remain under the terms of their origin",
    }
    lines = [f"# {name}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in properties.items()]
    lines += ["", "```python", "from crystal_agents import load_policy", ""]
    lines += [f'policy = load_policy("{name}")', "```", "", "## Evaluation", ""]
    for report in reports:
        lines += [*_split_section(name, report, row, training["seed"]), ""]
    if others is not None:
        lines += [*_other_crystals_section(others), ""]
    use = _use_and_limitations(policy, evaluated_elsewhere=others is not None)
    return "\n".join([*lines, use]) + "\n"


def _check_training(policy: SkeletonPolicy, run: Path) -> None:
    """Check that a policy was cloned from the splits of a named collection."""
    training = policy.config.training
    collection = training.get("collection")
    if collection not in COLLECTIONS:
        raise CrystalGymError(
            f"Expected {run} to be trained on a named collection ({', '.join(COLLECTIONS)}), got "
            f"{collection!r}."
        )
    split_by = training.get("split_by", "origin")
    if split_by != "origin":
        raise CrystalGymError(
            f"Expected {run} to be trained on the splits of the collection's origin, got splits by "
            f"{split_by}."
        )
    if training.get("finetuning"):
        raise CrystalGymError(
            f"Expected {run} to be a cloned policy, got a fine-tuned policy, which the model card "
            "does not describe."
        )


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise CrystalGymError(
            f"Expected at most {MOST_BYTES / 1e6:.0f} MB of pretrained policies, got "
            f"{size / 1e6:.1f} MB. Use a smaller network."
        )


def _read_report(path: Path, training: Mapping[str, Any], row: str) -> dict[str, Any]:
    """Read a report, and check that it has the row of a policy on the crystals of its training."""
    collection = training["collection"]
    try:
        report = json.loads(path.read_text("utf-8"))
        evaluated, rows, _ = report["collection"], report["rows"], report["validity_rules"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(
            f"Expected a report of `crystal-gym evaluate --json` in {path}, got {error!r}."
        ) from error
    if evaluated != collection or row not in rows:
        raise CrystalGymError(
            f"Expected the row {row!r} of {collection!r} in {path}, got "
            f"{', '.join(map(repr, rows))} of {evaluated!r}. Evaluate this policy, or give its row "
            "with --row."
        )
    if report.get(FINGERPRINT) != training.get(FINGERPRINT):
        raise CollectionMismatchError(
            f"Expected a report on {describe_crystals(collection, training.get(FINGERPRINT))}, on "
            f"which the policy was trained, in {path}, got one on "
            f"{describe_crystals(collection, report.get(FINGERPRINT))}. Evaluate the policy again."
        )
    return report


def _split_section(name: str, report: Mapping[str, Any], row: str, seed: int) -> list[str]:
    """Return the lines of the card with the metrics of one split."""
    policy_row = report["rows"][row]
    n_runs = policy_row["runs"]
    runs = (
        "over the crystals"
        if n_runs == 1
        else f"over {n_runs} runs with different seeds; these weights are those of seed {seed}"
    )
    introduction = (
        f"{report['n_crystals']:,} crystals, up to {report['n_start_sites']} start sites each. "
        f"Metrics are in percent, with 95 % bootstrap intervals {runs}. "
        f"`crystal-gym evaluate {name} --split {report['split']}` evaluates these weights."
    )
    others = [other for other in report["rows"] if other != row]
    lines = [
        f"### {report['split'].capitalize()}",
        "",
        introduction,
        "",
        f"| metric | {' | '.join(['this policy', '95 %', *others, 'definition'])} |",
        f"|---|{'---:|' * (2 + len(others))}---|",
    ]
    for metric, value in policy_row["metrics"].items():
        low, high = _percent(value["low"]), _percent(value["high"])
        interval = f"{low} to {high}" if low != high else ""
        other_values = [
            _percent(report["rows"][other]["metrics"].get(metric, {}).get("mean"))
            for other in others
        ]
        cells = [_percent(value["mean"]), interval, *other_values, METRICS.get(metric, "")]
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    by_site = ", ".join(_percent(accuracy) for accuracy in policy_row["per_site"])
    groups = [
        line
        for grouping, groups in policy_row.get("groups", {}).items()
        for line in _group_lines(grouping, groups)
    ]
    validity = "; ".join(report["validity_rules"].values())
    return [
        *lines,
        "",
        f"Validity rules: {validity}.",
        "",
        f"Accuracy by site: {by_site}.",
        *groups,
    ]


def _group_lines(grouping: str, groups: Mapping[str, Any]) -> list[str]:
    """Return the lines of the card with the metrics of the groups of one grouping."""
    metrics = list(next(iter(groups.values()))["metrics"])
    title = grouping.replace("_", " ")
    lines = [
        "",
        f"| {' | '.join([title, 'sites', *metrics])} |",
        f"|---|{'---:|' * (1 + len(metrics))}",
    ]
    for label, group in groups.items():
        values = [_percent(group["metrics"][metric]["mean"]) for metric in metrics]
        lines.append(f"| {' | '.join([label, format(group['n_sites'], ','), *values])} |")
    return lines


def _read_other_crystals(path: Path) -> dict[str, Any]:
    """Read the sets of an output of ``benchmarks/out_of_distribution.py``."""
    try:
        sets = json.loads(path.read_text("utf-8"))["sets"]
        for metrics in sets.values():
            for key in ("crystals", "most sites", *_OTHER_METRICS):
                metrics[key]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            f"Expected an output of benchmarks/out_of_distribution.py --json in {path}, got "
            f"{error!r}."
        ) from error
    return sets


def _other_crystals_section(sets: Mapping[str, Any]) -> list[str]:
    """Return the lines of the card with the metrics of sets of other crystals."""
    lines = [
        "### Other crystals",
        "",
        "Samples, one start site each, in percent, with 95 % bootstrap intervals over crystals.",
        "`benchmarks/out_of_distribution.py` describes the sets.",
        "",
        "| set | crystals | most sites | accuracy | 95 % | teacher-forced | top 5 | ECE |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, metrics in sets.items():
        accuracy = metrics["accuracy"]
        cells = [
            name,
            f"{metrics['crystals']:,}",
            str(metrics["most sites"]),
            _percent(accuracy["mean"]),
            f"{_percent(accuracy['low'])} to {_percent(accuracy['high'])}",
            *(_percent(metrics[key]["mean"]) for key in _OTHER_METRICS[1:]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f}"


def _use_and_limitations(policy: SkeletonPolicy, *, evaluated_elsewhere: bool) -> str:
    collection = policy.config.training["collection"]
    n_elements = len(policy.vocabulary)
    elsewhere = (
        "The table above has its\n  accuracy on other kinds of crystals."
        if evaluated_elsewhere
        else "It was not evaluated on\n  other kinds of crystals."
    )
    return f"""\
## Intended use

The policy proposes elements for the sites of crystals similar to those of `{collection}`, in cells
of up to {policy.config.max_sites} sites. It can also initialize other agents or serve as a
baseline.

## Limitations

- The policy chooses only among the {n_elements} elements of its vocabulary. {elsewhere}
- The policy imitates crystals of the dataset. A probable filling may be unstable, and a valid
  composition does not imply stability. Energies were not used in the training.
- The geometry must be known. It contains much information on the elements, so a guessed cell
  misleads the policy."""


def main() -> None:
    """Publish the policy given on the command line."""
    try:
        name = publish(tyro.cli(PublishArgs))
    except CrystalGymError as error:
        raise SystemExit(str(error)) from error
    print(f"Published as {name}.")


if __name__ == "__main__":
    main()
