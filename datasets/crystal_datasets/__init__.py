"""Expert and other behaviour data sets for crystal skeletons, in Minari's format.

Names load when they are first used, so that ``import crystal_datasets`` needs neither Minari nor
h5py.
"""

from typing import TYPE_CHECKING

from crystal_gym.lazy import lazy_names

if TYPE_CHECKING:
    from crystal_datasets.behaviours import BEHAVIOURS, Mixture, Part, mixed, sampled
    from crystal_datasets.minari_writer import build_dataset, dataset_id
    from crystal_datasets.replay import EpisodeRecorder, RecordEpisodes, write_replay
    from crystal_datasets.trajectories import Episodes, choose_sources, generate_episodes
    from crystal_datasets.transitions import Transitions, best_episodes, load_transitions

_HOMES = {
    "BEHAVIOURS": "crystal_datasets.behaviours",
    "Mixture": "crystal_datasets.behaviours",
    "Part": "crystal_datasets.behaviours",
    "mixed": "crystal_datasets.behaviours",
    "sampled": "crystal_datasets.behaviours",
    "build_dataset": "crystal_datasets.minari_writer",
    "dataset_id": "crystal_datasets.minari_writer",
    "EpisodeRecorder": "crystal_datasets.replay",
    "RecordEpisodes": "crystal_datasets.replay",
    "write_replay": "crystal_datasets.replay",
    "Episodes": "crystal_datasets.trajectories",
    "choose_sources": "crystal_datasets.trajectories",
    "generate_episodes": "crystal_datasets.trajectories",
    "Transitions": "crystal_datasets.transitions",
    "best_episodes": "crystal_datasets.transitions",
    "load_transitions": "crystal_datasets.transitions",
}

__all__ = [
    "BEHAVIOURS",
    "EpisodeRecorder",
    "Episodes",
    "Mixture",
    "Part",
    "RecordEpisodes",
    "Transitions",
    "best_episodes",
    "build_dataset",
    "choose_sources",
    "dataset_id",
    "generate_episodes",
    "load_transitions",
    "mixed",
    "sampled",
    "write_replay",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
