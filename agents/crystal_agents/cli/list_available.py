"""``crystal-gym list``: what is there by name."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crystal_agents.cli.command import Command, console

if TYPE_CHECKING:
    from rich.table import Table

# All data sets of this project stand in this Minari namespace.
_NAMESPACE = "crystal-gym"


@dataclass
class List(Command):
    """List crystal collections, the data sets that are built here, and trained policies."""

    runs: Path = Path("runs")
    """Folder that is searched for trained policies, beside those that come with the package."""

    def run(self) -> None:
        """Print the tables."""
        out = console()
        out.print(_collections())
        try:
            out.print(_data_sets())
        except ModuleNotFoundError as error:
            if error.name != "minari":
                raise
            out.print("Data sets need Minari: pip install 'crystal-gym[datasets]'.")
        out.print(_policies(self.runs))


def _collections() -> "Table":
    from rich.table import Table

    from crystal_gym.collections import COLLECTIONS, describe_collection

    table = Table("collection", "what it is", title="Crystal collections")
    for name in COLLECTIONS:
        table.add_row(name, describe_collection(name))
    return table


def _data_sets() -> "Table | str":
    import minari
    from rich.table import Table

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = minari.list_local_datasets(prefix=_NAMESPACE)
    table = Table("data set", title="Built data sets")
    for heading in ("episodes", "steps", "MB"):
        table.add_column(heading, justify="right")
    for name, metadata in found.items():
        table.add_row(
            name,
            f"{int(metadata['total_episodes']):,}",
            f"{int(metadata['total_steps']):,}",
            f"{float(metadata['dataset_size']):,.1f}",
        )
    notes = [str(warning.message) for warning in caught]
    table.caption = "\n".join(note for note in notes if "Misconfigured" in note) or None
    if not found and not table.caption:
        return "No data set is built yet; see crystal-gym build-dataset --help."
    return table


def _policies(runs: Path) -> "Table":
    from rich.table import Table

    from crystal_agents.policies.pretrained import PACKAGE, pretrained_policies

    table = Table("policy", "network", title="Trained policies")
    table.add_column("elements", justify="right")
    found = {name: PACKAGE / name / "policy.json" for name in pretrained_policies()}
    trained = sorted(runs.rglob("policy.json"))
    found |= {str(file.parent): file for file in trained}
    for name, file in found.items():
        try:
            config = json.loads(file.read_text())
            table.add_row(name, config["network"], str(len(config["symbols"])))
        except (OSError, ValueError, KeyError, TypeError):
            table.add_row(name, "damaged", "")
    table.caption = "The first come with the package." if trained else None
    return table
