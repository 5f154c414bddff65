"""``crystal-gym list``: collections, built datasets and trained policies by name."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crystal_agents.cli.command import Command, console

if TYPE_CHECKING:
    from rich.table import Table

# Minari namespace of all datasets of this project.
_NAMESPACE = "crystal-gym"


@dataclass
class List(Command):
    """List crystal collections, datasets built on this machine, and trained policies."""

    runs: Path = Path("runs")
    """Folder that is searched for trained policies, in addition to the pretrained ones."""

    def run(self) -> None:
        """Print the tables."""
        out = console()
        out.print(_collections())
        try:
            out.print(_datasets())
        except ModuleNotFoundError as error:
            if error.name != "minari":
                raise
            out.print("Datasets need Minari: pip install 'crystal-gym[datasets]'.")
        out.print(_policies(self.runs))


def _collections() -> "Table":
    from rich.table import Table

    from crystal_gym.collections import COLLECTIONS, describe_collection

    table = Table("collection", "description", title="Crystal collections")
    for name in COLLECTIONS:
        table.add_row(name, describe_collection(name))
    return table


def _datasets() -> "Table | str":
    import minari
    from rich.table import Table

    from crystal_datasets.dataset_folder import dataset_path

    # Minari takes a namespace with a member `data` for a dataset, and then cannot list any.
    blocking = dataset_path(_NAMESPACE) / "data"
    if blocking.exists():
        return f"Minari cannot list datasets because of {blocking}. Move this folder away."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        datasets = minari.list_local_datasets(prefix=_NAMESPACE)
    table = Table("dataset", title="Built datasets")
    for heading in ("episodes", "steps", "MB"):
        table.add_column(heading, justify="right")
    for name, metadata in datasets.items():
        table.add_row(
            name,
            f"{int(metadata['total_episodes']):,}",
            f"{int(metadata['total_steps']):,}",
            f"{float(metadata['dataset_size']):,.1f}",
        )
    table.caption = "\n".join(str(warning.message) for warning in caught) or None
    if not datasets and not table.caption:
        return "No dataset is built yet; see crystal-gym build-dataset --help."
    return table


def _policies(runs: Path) -> "Table":
    from rich.table import Table

    from crystal_agents.policies.pretrained import PACKAGE, pretrained_policies

    table = Table("policy", "network", title="Trained policies")
    table.add_column("elements", justify="right")
    files = {name: PACKAGE / name / "policy.json" for name in pretrained_policies()}
    trained = {str(file.parent): file for file in sorted(runs.rglob("policy.json"))}
    for name, file in (files | trained).items():
        try:
            config = json.loads(file.read_text("utf-8"))
            table.add_row(name, config["network"], str(len(config["symbols"])))
        except (OSError, ValueError, KeyError, TypeError):
            table.add_row(name, "damaged", "")
    table.caption = f"The first {len(files)} are pretrained." if trained else None
    return table
