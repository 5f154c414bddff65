"""Flat observations in datasets, and transitions as the arrays that other libraries require."""

import numpy as np

from crystal_datasets.transitions import Transitions
from crystal_gym.envs.flat_layout import FlatLayout
from crystal_gym.episode import EpisodeTable, observation_space
from crystal_gym.errors import UnknownNameError

# Kinds of observations of a dataset, and whether flat ones have pair features.
OBSERVATIONS = {"dict": False, "flat": False, "flat-pairs": True}


def flat_layout(table: EpisodeTable, observations: str) -> FlatLayout | None:
    """Return the layout of a dataset's observations; ``None`` if they are dicts.

    Raises:
        UnknownNameError: If ``observations`` is not a key of ``OBSERVATIONS``.
        CrystalGymError: If a lattice is outside the bounds of the layout.
    """
    if observations not in OBSERVATIONS:
        raise UnknownNameError("kind of observations", observations, OBSERVATIONS)
    if observations == "dict":
        return None
    layout = FlatLayout.from_space(
        observation_space(
            table.max_sites, table.max_edges, table.n_elements, len(table.target_names)
        ),
        pairs=OBSERVATIONS[observations],
    )
    layout.check_lattice(table.lattice)
    return layout


def flat_arrays(transitions: Transitions, pairs: bool = False) -> dict[str, np.ndarray]:
    """Return T transitions with flat observations.

    The keys are arguments of ``d3rlpy.dataset.MDPDataset``: ``MDPDataset(**flat_arrays(…))``. The
    observations take 4 T D bytes; ``transitions.select`` makes them fewer.

    Args:
        transitions: Whole episodes, as ``load_transitions`` returns them.
        pairs: Whether the vectors have the block ``pairs``, see
            ``crystal_gym.envs.flat_layout.FlatLayout``.

    Returns:
        ``observations``, float32 (T, D), as ``CrystalSkeletonFlat-v0`` returns them before each
        action; ``actions``, int64 (T,); ``rewards``, float32 (T,); ``terminals``, float32 (T,), 1
        at the last step of each episode.

    Raises:
        CrystalGymError: If a lattice is outside the bounds of the layout.
    """
    layout = FlatLayout(transitions.frac_coords.shape[1], len(transitions.vocabulary), pairs)
    geometry = layout.geometry({key: getattr(transitions, key) for key in layout.geometry_keys})
    observation = {"element": transitions.elements, "focus": transitions.focus}
    return {
        "observations": layout.flatten(observation, geometry[transitions.skeleton]),
        "actions": transitions.action.astype(np.int64),
        "rewards": transitions.reward.astype(np.float32),
        "terminals": transitions.done.astype(np.float32),
    }
