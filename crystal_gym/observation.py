"""The observation space: flat, of fixed size, made of boxes, so that every library takes it."""

import numpy as np
from gymnasium import spaces


def observation_space(max_sites: int, max_edges: int, n_elements: int) -> spaces.Dict:
    """The space of observations of cells with up to N sites and E edges over V elements.

    ``element`` int32 (N,): -1 no site, 0 empty, 1 to V the vocabulary's elements;
    ``frac_coords`` float32 (N, 3): fractional, 0 on padding;
    ``lattice`` float32 (6,): lengths in Å, angles in degrees;
    ``edges`` int32 (E, 5): ``(source, target, i, j, k)``, -1 on padding;
    ``focus``: the site to be filled now.
    """
    low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    return spaces.Dict(
        {
            "element": spaces.Box(-1, n_elements, (max_sites,), np.int32),
            "frac_coords": spaces.Box(0.0, 1.0, (max_sites, 3), np.float32),
            "lattice": spaces.Box(0.0, np.finfo(np.float32).max, (6,), np.float32),
            "edges": spaces.Box(low, high, (max_edges, 5), np.int32),
            "focus": spaces.Discrete(max_sites),
        }
    )
