"""The paper's Table 1 and Figure 2: five variants, each with several seeds."""

from dataclasses import dataclass

from crystal_agents.experiments.reproduction.experiment import Experiment, Variant


@dataclass(frozen=True)
class PaperVariant(Variant):
    """A column of the paper's table.

    Attributes:
        accuracy: The paper's accuracy in percent.
        validity: The paper's validity in percent.
    """

    accuracy: float
    validity: float


VARIANTS: dict[str, PaperVariant] = {
    "egnn-1": PaperVariant("EGNN, 1 trajectory", "egnn-paper", 1, 44.12, 96.08),
    "egnn-3": PaperVariant("EGNN, 3 trajectories", "egnn-paper", 3, 47.65, 96.48),
    "egnn-5": PaperVariant("EGNN, 5 trajectories", "egnn-paper", 5, 49.53, 96.75),
    "gcn-5": PaperVariant("GCN, 5 trajectories", "gcn", 5, 37.06, 95.03),
    # The paper prints 17.8, a misprint: one of 56 elements is 1.79 %.
    "random": PaperVariant("random", None, 0, 1.78, 82.20),
}
TABLE_1 = Experiment("table-1", VARIANTS)
