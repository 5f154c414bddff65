"""Episodes: the arrays of the crystals, the state of an episode, and the functions that change it.

The environment, the vector environment, the generation of datasets and the roll-outs of policies
all use these functions. They accept one episode (scalars and one-dimensional arrays) or a batch of
B episodes (a leading axis).
"""

from crystal_gym.episode.state import (
    EpisodeState,
    Instance,
    as_batch,
    fill,
    finished,
    observe,
    restart,
    start,
)
from crystal_gym.episode.table import EpisodeTable, observation_space

__all__ = [
    "EpisodeState",
    "EpisodeTable",
    "Instance",
    "as_batch",
    "fill",
    "finished",
    "observation_space",
    "observe",
    "restart",
    "start",
]
