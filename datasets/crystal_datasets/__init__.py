"""Expert and other behaviour data sets for crystal skeletons, in Minari's format.

Names load when they are first used, so that ``import crystal_datasets`` needs neither Minari nor
h5py.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crystal_datasets.minari_writer import build_dataset, dataset_id
    from crystal_datasets.trajectories import (
        BEHAVIOURS,
        Episodes,
        choose_sources,
        generate_episodes,
    )
    from crystal_datasets.transitions import Transitions, load_transitions

_MODULE_OF = {
    "BEHAVIOURS": "trajectories",
    "Episodes": "trajectories",
    "choose_sources": "trajectories",
    "generate_episodes": "trajectories",
    "build_dataset": "minari_writer",
    "dataset_id": "minari_writer",
    "Transitions": "transitions",
    "load_transitions": "transitions",
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


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
