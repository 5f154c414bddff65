"""The base class of commands that can compute on a Dask cluster."""

from dataclasses import dataclass

from crystal_agents.cli.command import Command


@dataclass(kw_only=True)
class ClusterCommand(Command):
    """A command whose long computations can run on a Dask cluster."""

    cluster: str | None = None
    """Compute on the workers of a Dask cluster instead of processes of this machine: the address of
    its scheduler, such as tcp://10.0.0.1:8786, or its scheduler file. The results are the same."""
