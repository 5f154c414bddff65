"""Expert and other behaviour data sets for crystal skeletons, in Minari's format.

Names load when they are first used, so that ``import crystal_datasets`` needs neither Minari nor
h5py.
"""

from typing import TYPE_CHECKING

from crystal_gym.lazy import lazy_names

if TYPE_CHECKING:
    from crystal_datasets.minari_writer import build_dataset, dataset_id
    from crystal_datasets.trajectories import (
        BEHAVIOURS,
        Episodes,
        choose_sources,
        generate_episodes,
    )
    from crystal_datasets.transitions import Transitions, load_transitions

_HOMES = {
    "BEHAVIOURS": "crystal_datasets.trajectories",
    "Episodes": "crystal_datasets.trajectories",
    "choose_sources": "crystal_datasets.trajectories",
    "generate_episodes": "crystal_datasets.trajectories",
    "build_dataset": "crystal_datasets.minari_writer",
    "dataset_id": "crystal_datasets.minari_writer",
    "Transitions": "crystal_datasets.transitions",
    "load_transitions": "crystal_datasets.transitions",
}

__all__ = [
    "BEHAVIOURS",
    "Episodes",
    "Transitions",
    "build_dataset",
    "choose_sources",
    "dataset_id",
    "generate_episodes",
    "load_transitions",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
