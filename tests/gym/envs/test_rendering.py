"""Rendering as text, as pixels and in a window."""

import itertools
import sys
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

import crystal_gym
from crystal_gym.envs.rendering import Scene, draw
from crystal_gym.envs.rendering.drawing import FOCUS_COLOR, element_colors
from crystal_gym.envs.rendering.geometry import find_bonds, periodic_copies
from crystal_gym.envs.skeleton_env import CrystalSkeletonEnv
from crystal_gym.envs.vector_env import CrystalSkeletonVectorEnv
from crystal_gym.errors import CrystalGymError


@pytest.fixture
def perovskite():
    from pymatgen.core import Lattice, Structure

    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    structure = Structure(Lattice.cubic(3.9), ["Sr", "Ti", "O", "O", "O"], coords)
    return crystal_gym.collection_from_structures([structure], order=lambda s: np.arange(len(s)))


def test_text_contains_cell_sites_elements_and_focus(perovskite):
    env = CrystalSkeletonEnv(collection=perovskite, render_mode="ansi")
    env.reset(options={"crystal": 0, "start_site": 1})
    before = env.render().splitlines()
    assert "0 of 5 sites filled" in before[0]
    assert "a 3.900" in before[1]
    assert [line.startswith("->") for line in before[3:]] == [False, True, False, False, False]
    assert not any(symbol in before[0] for symbol in ("Sr", "Ti"))
    env.step(env.expert_action())
    lines = env.render().splitlines()
    assert "1 of 5 sites filled, Ti" in lines[0]
    assert lines[4].split()[:5] == ["1", "Ti", "0.500", "0.500", "0.500"]
    # The titanium site has two edges to each oxygen site: to the site and to its periodic image.
    assert lines[4].split()[5:] == ["2×2", "3×2", "4×2"]
    for _ in range(4):
        env.step(env.expert_action())
    assert "->" not in env.render()


def test_pixels_change_when_sites_are_filled(toy):
    env = CrystalSkeletonEnv(collection=toy, render_mode="rgb_array")
    env.reset(seed=0, options={"crystal": 5})
    images = [env.render()]
    for _ in range(6):
        env.step(1)
        images.append(env.render())
    for image in images:
        assert image.shape == (480, 640, 3)
        assert image.dtype == np.uint8
        assert image.std() > 10
    assert all((a != b).any() for a, b in itertools.pairwise(images))


def test_rendering_is_repeatable_and_leaves_no_figure_open(toy):
    from matplotlib import pyplot as plt

    env = CrystalSkeletonEnv(collection=toy, render_mode="rgb_array")
    env.reset(seed=0)
    assert np.array_equal(env.render(), env.render())
    assert plt.get_fignums() == []


def contains_color(image, color):
    return (abs(image.astype(int) - np.round(255 * np.array(color))).max(axis=2) < 12).any()


def test_image_contains_the_colors_of_elements_and_focus(perovskite):
    from matplotlib.colors import to_rgb

    scene = Scene(perovskite.skeleton(0), np.array([38, 0, 8, 8, 8]), 1, "")
    image = scene.pixels()
    colors = element_colors()
    assert contains_color(image, colors["Sr"])
    assert contains_color(image, colors["O"])
    assert not contains_color(image, colors["N"])
    assert contains_color(image, to_rgb(FOCUS_COLOR))
    full = Scene(perovskite.skeleton(0), np.array([38, 22, 8, 8, 8]), None, "")
    assert not contains_color(full.pixels(), to_rgb(FOCUS_COLOR))


def test_perovskite_is_drawn_with_periodic_copies(perovskite):
    sites, _ = periodic_copies(perovskite.skeleton(0).frac_coords)
    # Eight corners, the center, and two faces for each anion.
    assert np.bincount(sites).tolist() == [8, 1, 2, 2, 2]
    figure = draw(perovskite.skeleton(0), np.array([38, 22, 8, 8, 0]), focus=4)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(labels) == sorted(["Sr"] * 8 + ["Ti"] + ["O"] * 4 + ["4"] * 2)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["O × 2", "Ti × 1", "Sr × 1", "empty × 1", "in focus: site 4"]


def test_bonds_are_distinct_and_have_the_lengths_of_edges(perovskite, toy):
    for collection in (perovskite, toy):
        for row in range(len(collection)):
            skeleton = collection.skeleton(row)
            sites, shifts = periodic_copies(skeleton.frac_coords)
            bonds = list(find_bonds(skeleton, sites, shifts))
            assert len(set(bonds)) == len(bonds)
            positions = (skeleton.frac_coords[sites] + shifts) @ skeleton.lattice
            lengths = np.linalg.norm(skeleton.edge_vectors, axis=1).round(6)
            for first, second in bonds:
                distance = np.linalg.norm(positions[first] - positions[second]).round(6)
                assert abs(lengths - distance).min() < 1e-5
    skeleton = perovskite.skeleton(0)
    assert len(list(find_bonds(skeleton, *periodic_copies(skeleton.frac_coords)))) == 30


def test_draw_rejects_a_wrong_number_of_elements(perovskite):
    with pytest.raises(CrystalGymError, match="Expected 5 atomic numbers"):
        draw(perovskite.skeleton(0), np.array([1, 2]))


def test_vector_renders_each_of_its_environments(toy):
    for mode, kind in (("ansi", str), ("rgb_array", np.ndarray)):
        vector = CrystalSkeletonVectorEnv(2, collection=toy, render_mode=mode)
        vector.reset(seed=0)
        frames = vector.render()
        assert len(frames) == 2
        assert all(isinstance(frame, kind) for frame in frames)


@pytest.mark.parametrize("make", [CrystalSkeletonEnv, CrystalSkeletonVectorEnv])
def test_rendering_without_a_render_mode_warns(toy, make):
    env = make(collection=toy)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="needs a render_mode"):
        assert env.render() is None


class WindowCanvas(FigureCanvasAgg):
    """A replacement for the canvas of a windowing toolkit."""

    required_interactive_framework = "headless"
    waits: tuple = ()

    def start_event_loop(self, timeout=0):
        self.waits += (timeout,)


class WindowManager(FigureManagerBase):
    """A manager that records the figures shown."""

    shown = None

    def show(self):
        self.shown.append(self.canvas.figure)


WindowCanvas.manager_class = WindowManager


@pytest.fixture
def display(monkeypatch):
    """Give Matplotlib a windowing toolkit; return the list of figures shown."""
    from matplotlib import pyplot as plt

    toolkit = types.ModuleType("toolkit")
    toolkit.FigureCanvas, toolkit.FigureManager = WindowCanvas, WindowManager
    monkeypatch.setitem(sys.modules, "toolkit", toolkit)
    before = plt.get_backend()
    plt.switch_backend("module://toolkit")
    shown = []
    monkeypatch.setattr(WindowManager, "shown", shown)
    yield shown
    plt.close("all")
    plt.switch_backend(before)


def test_window_is_updated_until_closed(toy, display):
    from matplotlib import pyplot as plt

    env = CrystalSkeletonEnv(collection=toy, render_mode="human")
    env.reset(seed=0, options={"crystal": 5})
    for _ in range(6):
        env.step(1)
    assert len(display) == 7
    assert len({id(figure) for figure in display}) == 1
    assert display[0].canvas.waits == (0.5,) * 7
    plt.close("all")  # the user closes the window, and the next scene opens another
    env.reset(seed=1)
    assert display[-1] is not display[0]
    env.close()
    assert plt.get_fignums() == []
    env.close()


def test_episode_continues_without_a_display_after_one_warning(toy):
    env = CrystalSkeletonEnv(collection=toy, render_mode="human")
    with pytest.warns(UserWarning, match="no display"):
        env.reset(seed=0, options={"crystal": 5})
    env.step(0)
    env.close()


def test_every_render_mode_passes_the_gymnasium_checker(display):
    check_env(gym.make("CrystalSkeleton-v0", render_mode="ansi").unwrapped)
    assert display
