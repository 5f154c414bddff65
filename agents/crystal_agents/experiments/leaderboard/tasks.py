"""Tasks of the leaderboard: what is measured, on which crystals and labels."""

from collections.abc import Mapping
from dataclasses import dataclass

from crystal_gym.errors import UnknownNameError

_PEROV_5 = "99f9ff90f508d5636b8bccc4112f03cf417284e6b39cb6967468f6a27c5a579e"
_MP_20 = "e523bf8b9589cc85183193d60489ecb2eae24c2106d4ccc265b413c8dd6e8756"
_N_CRYSTALS = 18_928


@dataclass(frozen=True)
class Metric:
    """A number that a submission has for each seed.

    Attributes:
        heading: Heading of the column, with the unit of the numbers that it shows.
        low: Lowest possible value.
        high: Highest possible value.
        scale: Factor from the submitted to the shown value; 100 shows a fraction in percent.
        digits: Decimals of the shown value.
        whole: Whether values are whole numbers.
    """

    heading: str
    low: float
    high: float
    scale: float = 1.0
    digits: int = 3
    whole: bool = False


@dataclass(frozen=True)
class LeaderboardTask:
    """A task of the leaderboard.

    Attributes:
        name: Name, which is also the folder of the task's submissions.
        description: What is measured, as sentences.
        metrics: Metrics by their keys in a submission.
        ranked_by: Key of the metric that orders the table.
        higher_is_better: Whether the highest value of that metric is first.
        interquartile: Whether the table has interquartile means over the seeds instead of means.
        ascending: Whether the metrics of a seed are in ascending order.
        collection: Name of the collection.
        collection_sha256: Fingerprint of the collection.
        start_sites: Start sites of each crystal at most, over which the values are averaged.
        reward: Name of the reward; empty for tasks without a reward.
        labels_sha256: Fingerprint of the labels that the reward looks up, ``None`` without labels.
    """

    name: str
    description: str
    metrics: Mapping[str, Metric]
    ranked_by: str
    collection: str
    collection_sha256: str
    higher_is_better: bool = True
    interquartile: bool = False
    ascending: bool = False
    start_sites: int = 1
    reward: str = ""
    labels_sha256: str | None = None


def _fraction(heading: str) -> Metric:
    return Metric(f"{heading}, %", 0, 1, scale=100, digits=2)


def _rewarded(
    reward: str, metric: str, definition: Metric, description: str, labels_sha256: str | None = None
) -> LeaderboardTask:
    """Return a task with the greedy fillings of the test crystals of Perov-5."""
    return LeaderboardTask(
        f"perov-5/{reward}",
        f"{description} All 3,785 test crystals, each filled once.",
        {metric: definition, "unique": _fraction("distinct fillings")},
        metric,
        "perov-5",
        _PEROV_5,
        interquartile=True,
        reward=reward,
        labels_sha256=labels_sha256,
    )


def _accuracy(
    collection: str, fingerprint: str, start_sites: int, description: str
) -> LeaderboardTask:
    return LeaderboardTask(
        f"{collection}/accuracy",
        description,
        {"accuracy": _fraction("accuracy")},
        "accuracy",
        collection,
        fingerprint,
        start_sites=start_sites,
    )


def _discovery(
    reward: str, targets: str, milestones: tuple[int, ...], labels_sha256: str
) -> LeaderboardTask:
    metrics = {
        f"evaluations_{k}": Metric(f"evaluations, {k} found", k, _N_CRYSTALS, digits=0, whole=True)
        for k in milestones
    }
    return LeaderboardTask(
        f"discovery/{reward}",
        f"Distinct crystals that are evaluated until {', '.join(map(str, milestones[:-1]))} and "
        f"all {milestones[-1]} {targets} of Perov-5 are found.",
        metrics,
        f"evaluations_{milestones[-1]}",
        "perov-5",
        _PEROV_5,
        higher_is_better=False,
        ascending=True,
        reward=reward,
        labels_sha256=labels_sha256,
    )


_ALL = (
    _rewarded("match", "match", _fraction("match"), "Fraction of the sites with the true element."),
    _rewarded(
        "perov5-dft",
        "return",
        Metric("return, eV/atom", -10, 0.64),
        "Minus the DFT heat of the filled crystal, strained to the skeleton's lattice.",
        "93549c56d004f29f829a655fc82359b282b69a0bb08750a93e2b7c72467beb38",
    ),
    _rewarded(
        "perov5-gap",
        "return",
        Metric("return", 0, 1),
        "Similarity of the indirect band gap to 1.12 eV.",
        "e3010ce833a06f053dc67e84570101536a35f72ad7e06cd47d1422908f3744e9",
    ),
    _rewarded(
        "formation-energy",
        "return",
        Metric("return, eV/atom", -20, 10),
        "Minus the formation energy by CHGNet 0.3.0.",
    ),
    _accuracy(
        "perov-5",
        _PEROV_5,
        5,
        "Fraction of the sites with the true element, free-running: all 3,785 test crystals, mean "
        "over up to five start sites of each.",
    ),
    _accuracy(
        "mp-20",
        _MP_20,
        1,
        "Fraction of the sites with the true element, free-running, mean over crystals: all 9,046 "
        "test crystals, one start site each.",
    ),
    _discovery(
        "perov5-water-splitting",
        "water splitters",
        (1, 10, 20),
        "940fbe5c463ead23b4ca99c2f6c1c02e373d082318bf23d1abbcc4f9bb845d12",
    ),
    _discovery(
        "perov5-photocorrosion-shield",
        "photocorrosion shields",
        (1, 4, 8),
        "b1cc495b89d6b8841b7eb330b0d74fa2072fc134baad7343009534093f20fb10",
    ),
)

# Tasks by name, in the order of the page.
TASKS: dict[str, LeaderboardTask] = {task.name: task for task in _ALL}


def get_task(name: str) -> LeaderboardTask:
    """Return a task by its name.

    Raises:
        UnknownNameError: If there is no such task.
    """
    if name not in TASKS:
        raise UnknownNameError("leaderboard task", name, TASKS)
    return TASKS[name]
