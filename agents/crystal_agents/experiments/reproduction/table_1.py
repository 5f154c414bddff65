"""The paper's Table 1 and Figure 2: five columns, each learned with several seeds."""

from dataclasses import dataclass

from crystal_agents.experiments.reproduction.experiment import Experiment, Variant


@dataclass(frozen=True)
class PaperColumn(Variant):
    """A column of the paper's table.

    Attributes:
        accuracy: the paper's value, in percent.
        validity: likewise.
    """

    accuracy: float
    validity: float


COLUMNS: dict[str, PaperColumn] = {
    "egnn-1": PaperColumn("EGNN, 1 trajectory", "egnn-paper", 1, 44.12, 96.08),
    "egnn-3": PaperColumn("EGNN, 3 trajectories", "egnn-paper", 3, 47.65, 96.48),
    "egnn-5": PaperColumn("EGNN, 5 trajectories", "egnn-paper", 5, 49.53, 96.75),
    "gcn-5": PaperColumn("GCN, 5 trajectories", "gcn", 5, 37.06, 95.03),
    # Printed as 17.8: one of 56 elements is 1.79 %.
    "random": PaperColumn("random", None, 0, 1.78, 82.20),
}
TABLE_1 = Experiment("table-1", COLUMNS)
