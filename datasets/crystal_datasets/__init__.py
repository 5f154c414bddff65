"""Expert and other behavior data sets for crystal skeletons, in Minari's format.

Names load when they are first used, so that ``import crystal_datasets`` needs neither Minari nor
h5py.
"""

from typing import TYPE_CHECKING

from crystal_gym.utils.lazy import lazy_names

if TYPE_CHECKING:
    from crystal_datasets.behaviors import (
        BEHAVIOR_POLICIES,
        MixtureComponent,
        PolicyMixture,
        mixed,
        sampled,
    )
    from crystal_datasets.build import build_dataset
    from crystal_datasets.episodes import Episodes, choose_start_sites, generate_episodes
    from crystal_datasets.minari_writer import dataset_id
    from crystal_datasets.replay import EpisodeRecorder, RecordEpisodes, write_replay
    from crystal_datasets.transitions import Transitions, best_episodes, load_transitions

_HOMES = {
    "BEHAVIOR_POLICIES": "crystal_datasets.behaviors",
    "PolicyMixture": "crystal_datasets.behaviors",
    "MixtureComponent": "crystal_datasets.behaviors",
    "mixed": "crystal_datasets.behaviors",
    "sampled": "crystal_datasets.behaviors",
    "build_dataset": "crystal_datasets.build",
    "dataset_id": "crystal_datasets.minari_writer",
    "EpisodeRecorder": "crystal_datasets.replay",
    "RecordEpisodes": "crystal_datasets.replay",
    "write_replay": "crystal_datasets.replay",
    "Episodes": "crystal_datasets.episodes",
    "choose_start_sites": "crystal_datasets.episodes",
    "generate_episodes": "crystal_datasets.episodes",
    "Transitions": "crystal_datasets.transitions",
    "best_episodes": "crystal_datasets.transitions",
    "load_transitions": "crystal_datasets.transitions",
}

__all__ = [
    "BEHAVIOR_POLICIES",
    "EpisodeRecorder",
    "Episodes",
    "MixtureComponent",
    "PolicyMixture",
    "RecordEpisodes",
    "Transitions",
    "best_episodes",
    "build_dataset",
    "choose_start_sites",
    "dataset_id",
    "generate_episodes",
    "load_transitions",
    "mixed",
    "sampled",
    "write_replay",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
