"""Matplotlib drawing of a unit cell with its sites, bonds and legend."""

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from crystal_gym.crystals.elements import SYMBOLS
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.envs.rendering.geometry import (
    CORNERS,
    Camera,
    find_bonds,
    periodic_copies,
    sphere_radius,
)
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# 640 × 480 pixels.
FIGURE_SIZE, FIGURE_DPI = (6.4, 4.8), 100

FOCUS_COLOR = "#d6006e"
_BOND_COLOR, _EMPTY_COLOR, _BOX_COLOR = "#9a9a9a", "#777777", "#303030"


def draw(
    skeleton: Skeleton,
    atomic_numbers: np.ndarray,
    focus: int | None = None,
    *,
    title: str = "",
    figure: "Figure | None" = None,
) -> "Figure":
    """Draw a unit cell with its filled and empty sites, neighbor edges and a legend.

    Sites near a face of the cell are repeated on the opposite face, as in textbook drawings of
    crystal structures.

    Args:
        skeleton: The geometry.
        atomic_numbers: Elements on the sites, (n,), 0 on empty sites.
        focus: A site to mark.
        title: Text above the drawing.
        figure: The figure to draw on (default: a new figure of 640 × 480 pixels).

    Returns:
        The figure; ``figure.savefig`` writes it to a file.

    Raises:
        CrystalGymError: If the number of atomic numbers differs from the number of sites.
    """
    from matplotlib.figure import Figure

    atomic_numbers = np.asarray(atomic_numbers)
    if atomic_numbers.shape != (skeleton.n_sites,):
        raise CrystalGymError(
            f"Expected {skeleton.n_sites} atomic numbers, one for each site (0 where empty), "
            f"got shape {atomic_numbers.shape}."
        )
    if figure is None:
        figure = Figure(figsize=FIGURE_SIZE, dpi=FIGURE_DPI)
    axes = figure.add_axes((0.02, 0.02, 0.74, 0.88))
    axes.set_axis_off()
    axes.set_aspect("equal")
    figure.text(0.5, 0.95, title, ha="center", va="center", fontsize=10.5)
    camera = Camera(skeleton.lattice)
    sites, shifts = periodic_copies(skeleton.frac_coords)
    positions = (skeleton.frac_coords[sites] + shifts) @ skeleton.lattice
    points, depths, scales = camera.project(positions)
    _draw_box(axes, camera, skeleton.lattice)
    radius = sphere_radius(skeleton)
    for first, second in find_bonds(skeleton, sites, shifts):
        at_focus = focus is not None and focus in (sites[first], sites[second])
        _draw_bond(axes, camera, positions[[first, second]], radius, at_focus=at_focus)
    for site, point, depth, scale in zip(sites, points, depths, scales, strict=True):
        number = int(atomic_numbers[site])
        label = symbol_of(number) or str(site)
        _draw_site(axes, (point, depth, radius * scale), number, label, in_focus=site == focus)
    _draw_axes(figure, camera, skeleton.lattice)
    _draw_legend(figure, atomic_numbers, focus)
    corners = camera.project(CORNERS @ skeleton.lattice)[0]
    extent = np.concatenate([points - 1.3 * radius, points + 1.3 * radius, corners])
    (left, bottom), (right, top) = extent.min(axis=0), extent.max(axis=0)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    return figure


@functools.cache
def element_colors() -> dict[str, tuple[float, float, float]]:
    """Return Jmol's color of each element as red, green and blue in [0, 1], from pymatgen."""
    from importlib.resources import files

    from monty.serialization import loadfn

    scheme = loadfn(str(files("pymatgen.vis") / "ElementColorSchemes.yaml"))["Jmol"]
    return {symbol: (r / 255, g / 255, b / 255) for symbol, (r, g, b) in scheme.items()}


def symbol_of(number: int) -> str:
    """Return the symbol of an atomic number, or an empty string for 0."""
    return SYMBOLS[number - 1] if number > 0 else ""


def _color(number: int) -> tuple[float, float, float]:
    return element_colors().get(symbol_of(number), (0.6, 0.6, 0.6))


def _fade(color: "str | tuple[float, float, float]", depth: float) -> np.ndarray:
    """Blend a color with white, more strongly at larger distances from the viewer."""
    from matplotlib.colors import to_rgb

    opacity = np.clip(0.75 + 0.35 * depth, 0.45, 1.0)
    return opacity * np.array(to_rgb(color)) + (1 - opacity)


def _draw_box(axes: "Axes", camera: Camera, lattice: np.ndarray) -> None:
    for corner in CORNERS:
        for axis in np.flatnonzero(corner == 0):
            ends = np.stack([corner, corner + np.eye(3, dtype=int)[axis]]) @ lattice
            points, depths, _ = camera.project(ends)
            axes.plot(
                *points.T,
                color=_fade(_BOX_COLOR, depths.mean()),
                linewidth=1.1,
                zorder=10 * depths.min() - 1,
            )


def _draw_bond(
    axes: "Axes", camera: Camera, ends: np.ndarray, radius: float, *, at_focus: bool
) -> None:
    middle = ends.mean(axis=0)
    # Each half has its own drawing order, so that nearer objects hide it correctly.
    for end in ends:
        surface = end + radius * (middle - end) / np.linalg.norm(middle - end)
        points, depths, _ = camera.project(np.stack([surface, middle]))
        depth = depths.mean()
        axes.plot(
            *points.T,
            color=_fade(FOCUS_COLOR if at_focus else _BOND_COLOR, depth),
            linewidth=2.0 if at_focus else 1.6,
            solid_capstyle="butt",
            zorder=10 * depth - 0.5,
        )


def _draw_site(
    axes: "Axes",
    sphere: tuple[np.ndarray, float, float],
    number: int,
    label: str,
    *,
    in_focus: bool,
) -> None:
    """Draw one site; ``sphere`` is its point in the drawing, its depth and its radius."""
    from matplotlib.patches import Circle

    point, depth, radius = sphere
    zorder = 10 * depth
    fill = _fade(_color(number) if number else "white", depth if number else 1.0)
    outline = _fade(FOCUS_COLOR if in_focus else "#404040" if number else _EMPTY_COLOR, depth)
    axes.add_patch(
        Circle(
            tuple(point),
            radius,
            facecolor=fill,
            edgecolor=outline,
            linewidth=2.6 if in_focus else 0.9 if number else 1.3,
            linestyle="-" if number or in_focus else (0, (2.5, 1.5)),
            zorder=zorder,
        )
    )
    if number:
        # A highlight near the upper left makes the circle look like a sphere.
        for k in range(1, 7):
            shade = fill + (1 - fill) * 0.09 * k
            offset = np.array([-0.28, 0.28]) * radius * k / 6
            axes.add_patch(
                Circle(
                    tuple(point + offset),
                    radius * 0.95 * (1 - k / 7),
                    facecolor=shade,
                    edgecolor="none",
                    zorder=zorder + 0.01 * k,
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
        color="white" if dark else _fade(FOCUS_COLOR if in_focus else "#202020", depth),
        fontweight="bold" if in_focus or number else "normal",
        zorder=zorder + 0.09,
        clip_on=False,
    )


def _draw_axes(figure: "Figure", camera: Camera, lattice: np.ndarray) -> None:
    axes = figure.add_axes((0.77, 0.05, 0.2, 0.26))
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-1.2, 1.4)
    axes.set_ylim(-1.2, 1.4)
    directions = lattice / np.linalg.norm(lattice, axis=1, keepdims=True)
    for name, (x, y, _) in zip("abc", directions @ camera.rotation.T, strict=True):
        arrow = {"arrowstyle": "->", "color": _BOX_COLOR, "shrinkB": 0}
        axes.annotate("", (x, y), (0, 0), arrowprops=arrow)
        axes.text(1.22 * x, 1.22 * y, name, ha="center", va="center", fontsize=10, style="italic")


def _draw_legend(figure: "Figure", atomic_numbers: np.ndarray, focus: int | None) -> None:
    from matplotlib.lines import Line2D

    def marker(face: Any, edge: str, width: float, label: str) -> Line2D:
        return Line2D(
            [], [], linestyle="none", marker="o", markersize=12, label=label,
            markerfacecolor=face, markeredgecolor=edge, markeredgewidth=width,
        )  # fmt: skip

    numbers, counts = np.unique(atomic_numbers, return_counts=True)
    handles = [
        marker(_color(int(number)), "#404040", 0.9, f"{symbol_of(number)} × {count}")
        for number, count in zip(numbers, counts, strict=True)
        if number
    ]
    if not atomic_numbers.all():
        handles.append(marker("white", _EMPTY_COLOR, 1.3, f"empty × {(atomic_numbers == 0).sum()}"))
    if focus is not None:
        handles.append(marker("white", FOCUS_COLOR, 2.6, f"in focus: site {focus}"))
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.755, 0.88), frameon=False, fontsize=9.5
    )
