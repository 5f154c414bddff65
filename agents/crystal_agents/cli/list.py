"""``crystal-gym list``: what is there by name."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crystal_agents.cli.command import Command, console

if TYPE_CHECKING:
    from rich.table import Table

# All data sets of this project stand in this Minari namespace.
_NAMESPACE = "crystal-gym"


@dataclass
class List(Command):
    """List crystal collections and the expert data sets that are built here."""

    def run(self) -> None:
        """Print the tables."""
        out = console()
        out.print(_collections())
        try:
            out.print(_data_sets())
        except ModuleNotFoundError as error:
            if error.name != "minari":
                raise
            out.print("Data sets need Minari: pip install 'crystal-gym[datasets]'.", markup=False)


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
        return "No data set is built yet; see crystal-gym build --help."
    return table
