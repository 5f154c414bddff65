"""The state of an episode as text or as an image."""

from dataclasses import dataclass

import numpy as np

from crystal_gym.collections.collection import formula
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.envs.rendering.drawing import draw, symbol_of
from crystal_gym.episode import EpisodeState, EpisodeTable


@dataclass(frozen=True)
class Scene:
    """A partly filled crystal.

    Attributes:
        skeleton: The geometry.
        atomic_numbers: Elements on the sites, (n,), 0 on empty sites.
        focus: The site in focus, or ``None`` if all sites are filled.
        title: Title of the drawing.
    """

    skeleton: Skeleton
    atomic_numbers: np.ndarray
    focus: int | None
    title: str

    def text(self) -> str:
        """Return a table of the sites, with an arrow at the site in focus."""
        a, b, c, alpha, beta, gamma = self.skeleton.parameters
        lines = [
            self.title,
            f"a {a:.3f}  b {b:.3f}  c {c:.3f} Å   α {alpha:.2f}  β {beta:.2f}  γ {gamma:.2f}°",
            "   site  element        x      y      z  neighbors",
        ]
        for site, (x, y, z) in enumerate(self.skeleton.frac_coords):
            neighbors = self.skeleton.edges[self.skeleton.edges[:, 0] == site, 1]
            counts = [
                f"{target}×{count}"
                for target, count in zip(*np.unique(neighbors, return_counts=True), strict=True)
            ]
            arrow = "->" if site == self.focus else "  "
            lines.append(
                f"{arrow} {site:4}  {symbol_of(self.atomic_numbers[site]) or '·':7}  "
                f"{x:.3f}  {y:.3f}  {z:.3f}  {' '.join(counts)}"
            )
        return "\n".join(lines)

    def pixels(self) -> np.ndarray:
        """Return the drawing as an image, uint8 (480, 640, 3)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(
            draw(self.skeleton, self.atomic_numbers, self.focus, title=self.title)
        )
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]


def make_scenes(table: EpisodeTable, state: EpisodeState) -> list[Scene]:
    """Make a scene of one episode, or of each episode of a batch.

    Args:
        table: The crystals.
        state: One episode or a batch.

    Returns:
        One scene for each episode.
    """
    episodes = zip(
        np.atleast_1d(state.crystal),
        np.atleast_2d(state.elements),
        np.atleast_1d(state.step),
        np.atleast_1d(state.focus),
        strict=True,
    )
    scenes = []
    for crystal, elements, step, focus in episodes:
        n = int(table.n_sites[crystal])
        numbers = table.vocabulary.decode(elements)[:n]
        title = f"{table.collection.name}, crystal {crystal}: {step} of {n} sites filled"
        scenes.append(
            Scene(
                table.collection.skeleton(int(crystal)),
                numbers,
                int(focus) if step < n else None,
                f"{title}, {formula(numbers)}" if step else title,
            )
        )
    return scenes
