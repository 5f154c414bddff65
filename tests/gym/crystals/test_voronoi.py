"""Voronoi cells of sites and the points that determine them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cells

from crystal_gym.crystals.voronoi import faces_of_first, points_within


def test_cells_of_a_cube_have_six_faces_of_equal_solid_angle():
    grid = np.argwhere(np.ones((3, 3, 3))) - 1.0
    points = grid[np.argsort(np.abs(grid).sum(axis=1), kind="stable")]
    faces = faces_of_first(points, 2)
    center = faces.source == 0
    assert sorted(map(tuple, points[faces.behind[center & (faces.angles > 1e-9)]])) == sorted(
        map(tuple, [*np.eye(3), *-np.eye(3)])
    )
    assert np.isclose(faces.angles[center].sum(), 4 * np.pi)
    assert np.allclose(faces.angles[center & (faces.angles > 1e-9)], 4 * np.pi / 6)
    assert np.isclose(faces.reach[0], np.sqrt(3) / 2)
    assert np.isinf(faces.reach[1])


def test_too_few_points_give_open_cells():
    faces = faces_of_first(np.eye(3), 2)
    assert np.isinf(faces.reach).all()
    assert not faces.source.size


@settings(max_examples=25)
@given(cells(max_sites=8), st.floats(1.0, 8.0))
def test_points_within_equal_those_of_pymatgen(cell, radius):
    from pymatgen.core import Lattice

    lattice, frac_coords = cell
    centers = np.arange(len(frac_coords))[::2]
    coords, rows = points_within(lattice, frac_coords, centers, radius)
    assert rows[: len(centers), 0].tolist() == centers.tolist()
    assert not rows[: len(centers), 1:].any()
    assert np.allclose(coords, (frac_coords[rows[:, 0]] + rows[:, 1:]) @ lattice)
    expected = set()
    for center in centers:
        _, _, sites, images = Lattice(lattice).get_points_in_sphere(
            frac_coords, frac_coords[center] @ lattice, radius, zip_results=False
        )
        expected |= set(map(tuple, np.column_stack([sites, images]).astype(int).tolist()))
    assert set(map(tuple, rows.tolist())) == expected
