"""Minari datasets of expert and other behavior policies on crystal skeletons.

Each name is imported when it is first used, so ``import crystal_datasets`` loads neither Minari nor
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
    from crystal_datasets.episodes import Episodes, generate_episodes
    from crystal_datasets.expert import expert_transitions
    from crystal_datasets.flat import flat_arrays
    from crystal_datasets.minari_writer import dataset_id
    from crystal_datasets.replay import EpisodeRecorder, RecordEpisodes, write_replay
    from crystal_datasets.start_states import StartStates, choose_start_sites
    from crystal_datasets.transitions import Transitions, best_episodes, load_transitions

_MODULES = {
    "BEHAVIOR_POLICIES": "crystal_datasets.behaviors",
    "EpisodeRecorder": "crystal_datasets.replay",
    "Episodes": "crystal_datasets.episodes",
    "MixtureComponent": "crystal_datasets.behaviors",
    "PolicyMixture": "crystal_datasets.behaviors",
    "RecordEpisodes": "crystal_datasets.replay",
    "StartStates": "crystal_datasets.start_states",
    "Transitions": "crystal_datasets.transitions",
    "best_episodes": "crystal_datasets.transitions",
    "build_dataset": "crystal_datasets.build",
    "choose_start_sites": "crystal_datasets.start_states",
    "dataset_id": "crystal_datasets.minari_writer",
    "expert_transitions": "crystal_datasets.expert",
    "flat_arrays": "crystal_datasets.flat",
    "generate_episodes": "crystal_datasets.episodes",
    "load_transitions": "crystal_datasets.transitions",
    "mixed": "crystal_datasets.behaviors",
    "sampled": "crystal_datasets.behaviors",
    "write_replay": "crystal_datasets.replay",
}

__all__ = [
    "BEHAVIOR_POLICIES",
    "EpisodeRecorder",
    "Episodes",
    "MixtureComponent",
    "PolicyMixture",
    "RecordEpisodes",
    "StartStates",
    "Transitions",
    "best_episodes",
    "build_dataset",
    "choose_start_sites",
    "dataset_id",
    "expert_transitions",
    "flat_arrays",
    "generate_episodes",
    "load_transitions",
    "mixed",
    "sampled",
    "write_replay",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
