"""Pictures of crystals being filled: as text, as pixels, in a window."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import logger

from crystal_gym.collections.collection import formula
from crystal_gym.crystals.elements import SYMBOLS
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Sites this close to a face of the cell (fractional) are also drawn on the face opposite.
_FACE = 0.12
# The camera: turned about the vertical, raised above the horizontal (degrees), and its distance in
# units of the crystal's size.
_TURN, _RISE, _DISTANCE = 22.0, 14.0, 5.0
# Sphere radius in units of the shortest neighbor distance.
_RADIUS = 0.24
_FOCUS, _LINE, _EMPTY_LINE, _BOX = "#d6006e", "#9a9a9a", "#777777", "#303030"


@dataclass(frozen=True)
class Scene:
    """A crystal at one moment.

    Attributes:
        skeleton: its geometry.
        atomic_numbers: elements on its sites, (n,), 0 on empty ones.
        focus: the site to be filled now, ``None`` when all are filled.
        title: what is shown.
    """

    skeleton: Skeleton
    atomic_numbers: np.ndarray
    focus: int | None
    title: str

    def text(self) -> str:
        """A table of the sites; an arrow stands at the focus."""
        a, b, c, alpha, beta, gamma = self.skeleton.parameters
        lines = [
            self.title,
            f"a {a:.3f}  b {b:.3f}  c {c:.3f} Å   α {alpha:.2f}  β {beta:.2f}  γ {gamma:.2f}°",
            "   site  element        x      y      z  neighbors",
        ]
        for site, (x, y, z) in enumerate(self.skeleton.frac_coords):
            neighbors = self.skeleton.edges[self.skeleton.edges[:, 0] == site, 1]
            counts = [
                f"{target}×{n}"
                for target, n in zip(*np.unique(neighbors, return_counts=True), strict=True)
            ]
            arrow = "->" if site == self.focus else "  "
            lines.append(
                f"{arrow} {site:4}  {_symbol(self.atomic_numbers[site]) or '·':7}  "
                f"{x:.3f}  {y:.3f}  {z:.3f}  {' '.join(counts)}"
            )
        return "\n".join(lines)

    def pixels(self) -> np.ndarray:
        """The drawing, uint8 (480, 640, 3)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(
            draw(self.skeleton, self.atomic_numbers, self.focus, title=self.title)
        )
        canvas.draw()
        return np.array(canvas.buffer_rgba())[..., :3]


def scenes(table: EpisodeTable, state: EpisodeState) -> list[Scene]:
    """What one episode or each of a batch looks like now."""
    episodes = zip(
        np.atleast_1d(state.crystal),
        np.atleast_2d(state.elements),
        np.atleast_1d(state.step),
        np.atleast_1d(state.focus),
        strict=True,
    )
    found = []
    for crystal, elements, step, focus in episodes:
        n = int(table.n_sites[crystal])
        numbers = table.vocabulary.decode(elements)[:n]
        title = f"{table.collection.name}, crystal {crystal}: {step} of {n} sites filled"
        found.append(
            Scene(
                table.collection.skeleton(int(crystal)),
                numbers,
                int(focus) if step < n else None,
                f"{title}, {formula(numbers)}" if step else title,
            )
        )
    return found


def draw(
    skeleton: Skeleton,
    atomic_numbers: np.ndarray,
    focus: int | None = None,
    *,
    title: str = "",
    figure: "Figure | None" = None,
) -> "Figure":
    """Draw a unit cell with its filled and empty sites, neighbor edges and a legend.

    Sites near a face of the cell are repeated on the face opposite, so that a perovskite looks like
    one.

    Args:
        skeleton: the geometry.
        atomic_numbers: elements on the sites, (n,), 0 on empty ones.
        focus: a site to mark.
        title: written above.
        figure: where to draw (default: a new figure of 640 × 480 pixels).

    Returns:
        The figure; ``figure.savefig`` writes it to a file.
    """
    from matplotlib.figure import Figure

    atomic_numbers = np.asarray(atomic_numbers)
    if atomic_numbers.shape != (skeleton.n_sites,):
        raise CrystalGymError(
            f"{skeleton.n_sites} sites need as many atomic numbers (0 where empty); "
            f"got shape {atomic_numbers.shape}."
        )
    if figure is None:
        figure = Figure(figsize=(6.4, 4.8), dpi=100)
    axes = figure.add_axes((0.02, 0.02, 0.74, 0.88))
    axes.set_axis_off()
    axes.set_aspect("equal")
    figure.text(0.5, 0.95, title, ha="center", va="center", fontsize=10.5)
    camera = _Camera(skeleton.lattice)
    sites, shifts = _copies(skeleton.frac_coords)
    positions = (skeleton.frac_coords[sites] + shifts) @ skeleton.lattice
    points, depths, scales = camera.see(positions)
    _draw_box(axes, camera, skeleton.lattice)
    radius = _radius(skeleton)
    for first, second in _bonds(skeleton, sites, shifts):
        at_focus = focus is not None and focus in (sites[first], sites[second])
        _draw_bond(axes, camera, positions[[first, second]], radius, at_focus=at_focus)
    for site, point, depth, scale in zip(sites, points, depths, scales, strict=True):
        number = int(atomic_numbers[site])
        label = _symbol(number) or str(site)
        _draw_site(axes, (point, depth, radius * scale), number, label, in_focus=site == focus)
    _draw_axes(figure, camera, skeleton.lattice)
    _draw_legend(figure, atomic_numbers, focus)
    corners = camera.see(_corners(skeleton.lattice))[0]
    everything = np.concatenate([points - 1.3 * radius, points + 1.3 * radius, corners])
    (left, low), (right, high) = everything.min(axis=0), everything.max(axis=0)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    return figure


class Window:
    """A window that shows one scene after the other; without a display it only warns."""

    def __init__(self) -> None:
        self._figure: Figure | None = None
        self._open()

    def _open(self) -> None:
        from matplotlib import pyplot as plt

        figure = plt.figure("crystal-gym", figsize=(6.4, 4.8), dpi=100)
        if getattr(figure.canvas, "required_interactive_framework", None) is None:
            plt.close(figure)
            logger.warn(
                "There is no display to open a window on (or Matplotlib has no interactive "
                "backend), so nothing is shown. Use render_mode='rgb_array', or 'ansi' for text."
            )
        else:
            self._figure = figure

    def show(self, scene: Scene, seconds: float) -> None:
        """Show a scene and leave it for so many seconds."""
        if self._figure is None:
            return
        from matplotlib import pyplot as plt

        if not plt.fignum_exists(self._figure.number):
            self._open()  # the user has closed it
        self._figure.clear()
        draw(
            scene.skeleton,
            scene.atomic_numbers,
            scene.focus,
            title=scene.title,
            figure=self._figure,
        )
        canvas = self._figure.canvas
        canvas.manager.show()  # type: ignore[union-attr] - pyplot's figures have one
        canvas.draw_idle()
        canvas.start_event_loop(seconds)

    def close(self) -> None:
        """Close the window."""
        if self._figure is not None:
            from matplotlib import pyplot as plt

            plt.close(self._figure)
            self._figure = None


@functools.cache
def element_colors() -> dict[str, tuple[float, float, float]]:
    """Jmol's color of each element as red, green, blue in [0, 1], from pymatgen's table."""
    from importlib.resources import files

    from monty.serialization import loadfn

    scheme = loadfn(str(files("pymatgen.vis") / "ElementColorSchemes.yaml"))["Jmol"]
    return {symbol: (r / 255, g / 255, b / 255) for symbol, (r, g, b) in scheme.items()}


class _Camera:
    """Perspective onto a cell: x to the right, y up, depth towards the viewer."""

    def __init__(self, lattice: np.ndarray) -> None:
        turn, rise = np.radians(_TURN), np.radians(_RISE)
        right = np.array([-np.sin(turn), np.cos(turn), 0.0])
        towards = np.array([np.cos(turn) * np.cos(rise), np.sin(turn) * np.cos(rise), np.sin(rise)])
        self.rotation = np.stack([right, np.cross(towards, right), towards])
        self.centre = lattice.sum(axis=0) / 2
        self.size = np.linalg.norm(_corners(lattice) - self.centre, axis=1).max()

    def see(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points (m, 2), depths (m,) from -1 (far) to 1 (near), and scales (m,)."""
        turned = (positions - self.centre) @ self.rotation.T
        depth = turned[:, 2] / self.size
        scale = _DISTANCE / (_DISTANCE - depth)
        return turned[:, :2] * scale[:, None], depth, scale


def _corners(lattice: np.ndarray) -> np.ndarray:
    return np.array(list(np.ndindex(2, 2, 2))) @ lattice


def _copies(frac_coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every site in the cell or near its faces: site numbers (m,) and cell shifts (m, 3)."""
    shifts = np.array(list(np.ndindex(3, 3, 3))) - 1
    shifted = frac_coords[:, None] + shifts
    sites, which = np.nonzero(((shifted > -_FACE) & (shifted < 1 + _FACE)).all(axis=2))
    return sites, shifts[which]


def _bonds(skeleton: Skeleton, sites: np.ndarray, shifts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of drawn copies that an edge joins, each once."""
    copies = {
        (site, *shift): i
        for i, (site, shift) in enumerate(zip(sites.tolist(), shifts.tolist(), strict=True))
    }
    for (site, *shift), i in copies.items():
        for _, target, *image in skeleton.edges[skeleton.edges[:, 0] == site].tolist():
            j = copies.get((target, *(a + b for a, b in zip(shift, image, strict=True))))
            if j is not None and i < j:
                yield i, j


def _radius(skeleton: Skeleton) -> float:
    lengths = np.linalg.norm(skeleton.edge_vectors, axis=1)
    shortest = lengths.min() if lengths.size else skeleton.parameters[:3].min()
    return _RADIUS * float(shortest)


def _symbol(number: int) -> str:
    return SYMBOLS[number - 1] if number > 0 else ""


def _color(number: int) -> tuple[float, float, float]:
    return element_colors().get(_symbol(number), (0.6, 0.6, 0.6))


def _faded(color: "str | tuple[float, float, float]", depth: float) -> np.ndarray:
    """The color as seen through a little fog."""
    from matplotlib.colors import to_rgb

    clear = np.clip(0.75 + 0.35 * depth, 0.45, 1.0)
    return clear * np.array(to_rgb(color)) + (1 - clear)


def _draw_box(axes: "Axes", camera: _Camera, lattice: np.ndarray) -> None:
    corners = np.array(list(np.ndindex(2, 2, 2)))
    for start in corners:
        for axis in np.flatnonzero(start == 0):
            ends = np.stack([start, start + np.eye(3, dtype=int)[axis]]) @ lattice
            points, depths, _ = camera.see(ends)
            axes.plot(
                *points.T,
                color=_faded(_BOX, depths.mean()),
                linewidth=1.1,
                zorder=10 * depths.min() - 1,
            )


def _draw_bond(
    axes: "Axes", camera: _Camera, ends: np.ndarray, radius: float, *, at_focus: bool
) -> None:
    middle = ends.mean(axis=0)
    # Two halves, so that each can lie behind what is nearer than it; from surface to surface.
    for end in ends:
        surface = end + radius * (middle - end) / np.linalg.norm(middle - end)
        points, depths, _ = camera.see(np.stack([surface, middle]))
        near = depths.mean()
        axes.plot(
            *points.T,
            color=_faded(_FOCUS if at_focus else _LINE, near),
            linewidth=2.0 if at_focus else 1.6,
            solid_capstyle="butt",
            zorder=10 * near - 0.5,
        )


def _draw_site(
    axes: "Axes",
    ball: tuple[np.ndarray, float, float],
    number: int,
    label: str,
    *,
    in_focus: bool,
) -> None:
    from matplotlib.patches import Circle

    point, depth, radius = ball
    height = 10 * depth
    fill = _faded(_color(number) if number else "white", depth if number else 1.0)
    outline = _faded(_FOCUS if in_focus else "#404040" if number else _EMPTY_LINE, depth)
    axes.add_patch(
        Circle(
            tuple(point),
            radius,
            facecolor=fill,
            edgecolor=outline,
            linewidth=2.6 if in_focus else 0.9 if number else 1.3,
            linestyle="-" if number or in_focus else (0, (2.5, 1.5)),
            zorder=height,
        )
    )
    if number:
        # A highlight towards the upper left makes a ball of the disc.
        for k in range(1, 7):
            shade = fill + (1 - fill) * 0.09 * k
            offset = np.array([-0.28, 0.28]) * radius * k / 6
            axes.add_patch(
                Circle(
                    tuple(point + offset),
                    radius * 0.95 * (1 - k / 7),
                    facecolor=shade,
                    edgecolor="none",
                    zorder=height + 0.01 * k,
                )
            )
    dark = number and fill @ [0.299, 0.587, 0.114] < 0.45
    axes.text(
        point[0],
        point[1],
        label,
        ha="center",
        va="center",
        fontsize=9 if number else 8,
        color="white" if dark else _faded(_FOCUS if in_focus else "#202020", depth),
        fontweight="bold" if in_focus or number else "normal",
        zorder=height + 0.09,
        clip_on=False,
    )


def _draw_axes(figure: "Figure", camera: _Camera, lattice: np.ndarray) -> None:
    axes = figure.add_axes((0.77, 0.05, 0.2, 0.26))
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-1.2, 1.4)
    axes.set_ylim(-1.2, 1.4)
    directions = lattice / np.linalg.norm(lattice, axis=1, keepdims=True)
    for name, (x, y, _) in zip("abc", directions @ camera.rotation.T, strict=True):
        axes.annotate(
            "", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": _BOX, "shrinkB": 0}
        )
        axes.text(1.22 * x, 1.22 * y, name, ha="center", va="center", fontsize=10, style="italic")


def _draw_legend(figure: "Figure", atomic_numbers: np.ndarray, focus: int | None) -> None:
    from matplotlib.lines import Line2D

    def disc(face: Any, edge: str, width: float, label: str) -> Line2D:
        return Line2D(
            [], [], linestyle="none", marker="o", markersize=12, label=label,
            markerfacecolor=face, markeredgecolor=edge, markeredgewidth=width,
        )  # fmt: skip

    numbers, counts = np.unique(atomic_numbers, return_counts=True)
    handles = [
        disc(_color(int(number)), "#404040", 0.9, f"{_symbol(number)} × {count}")
        for number, count in zip(numbers, counts, strict=True)
        if number
    ]
    if not atomic_numbers.all():
        handles.append(disc("white", _EMPTY_LINE, 1.3, f"empty × {(atomic_numbers == 0).sum()}"))
    if focus is not None:
        handles.append(disc("white", _FOCUS, 2.6, f"in focus: site {focus}"))
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.755, 0.88), frameon=False, fontsize=9.5
    )
