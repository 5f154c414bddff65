"""Hypothesis strategies for several test modules."""

import numpy as np
from hypothesis import strategies as st

from crystal_gym.crystals.skeleton import SHORTEST_DISTANCE, lattice_matrix


@st.composite
def cells(draw, max_sites=20):
    """Draw a lattice in Å, (3, 3), and fractional coordinates without overlap, (n, 3)."""
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
    sites = candidates[:1]
    for candidate in candidates[1:]:
        distance = Lattice(lattice).get_all_distances(sites, candidate[None]).min()
        if len(sites) < n and distance > max(SHORTEST_DISTANCE, 0.8):
            sites = np.vstack([sites, candidate])
    return lattice, sites
