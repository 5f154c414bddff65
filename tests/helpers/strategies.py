"""Hypothesis strategies that several test modules share."""

import numpy as np
from hypothesis import strategies as st

from crystal_gym.crystals.skeleton import SHORTEST_DISTANCE, lattice_matrix


@st.composite
def cells(draw, max_sites=20):
    """A lattice (any angles) and 1 to 20 sites that do not overlap."""
    from pymatgen.core import Lattice

    seed = draw(st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from(["triclinic", "orthorhombic", "cubic"]))
    n = draw(st.integers(1, max_sites))
    on_grid = draw(st.booleans())
    rng = np.random.default_rng(seed)
    lengths, angles = rng.uniform(3.5, 8, 3), rng.uniform(70, 110, 3)
    if kind != "triclinic":
        angles[:] = 90
    if kind == "cubic":
        lengths[:] = lengths[0]
    lattice = lattice_matrix(np.concatenate([lengths, angles]))
    candidates = rng.integers(0, 4, (3 * n, 3)) / 4 if on_grid else rng.random((3 * n, 3))
    kept = candidates[:1]
    for site in candidates[1:]:
        near = Lattice(lattice).get_all_distances(kept, site[None]).min()
        if len(kept) < n and near > max(SHORTEST_DISTANCE, 0.8):
            kept = np.vstack([kept, site])
    return lattice, kept
