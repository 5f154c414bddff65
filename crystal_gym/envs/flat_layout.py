"""The layout of flat observations, and the conversion of ``Dict`` observations to it and back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from gymnasium import spaces

from crystal_gym.crystals.skeleton import SHORTEST_DISTANCE, lattice_matrix
from crystal_gym.errors import CrystalGymError

# Parts of an observation that do not change within an episode.
GEOMETRY = ("frac_coords", "lattice", "edges")
LONGEST_CELL = 512.0
# Powers of two, so that the division and its inverse are exact.
LENGTH_UNIT = 8.0
ANGLE_UNIT = 128.0

_UNITS = np.repeat(np.array([LENGTH_UNIT, ANGLE_UNIT], np.float32), 3)
_LATTICE_HIGH = np.repeat(np.array([LONGEST_CELL, 180.0], np.float32), 3) / _UNITS
_PAIR_HIGH = 1 / SHORTEST_DISTANCE


@dataclass(frozen=True)
class FlatLayout:
    """The layout of observations of cells with up to N sites over V elements as vectors.

    A flat observation is a float32 vector (D,) of these blocks, in this order:

    | Block         | Length      | Values                                                    |
    |---------------|-------------|-----------------------------------------------------------|
    | `element`     | N · (V + 1) | one-hot code of each site (0 empty, 1 to V); 0 on padding |
    | `focus`       | N           | one-hot site in focus                                     |
    | `frac_coords` | 3 · N       | fractional coordinates in [0, 1], site by site            |
    | `lattice`     | 6           | lengths / 8 Å in [0, 64], angles / 128° in [0, 1.40625]   |
    | `pairs`       | N (N + 1)/2 | only with pairs: 1 Å / shortest edge, in [0, 2]           |
    | `target`      | T           | only if the observation has a target: its values          |

    The block ``pairs`` has one value for each pair of sites s ≤ t, in the order (0, 0), (0, 1), …,
    (N - 1, N - 1): the inverse length of the shortest neighbor edge between the two sites or their
    images, 0 if they have no edge. Sites are at least 0.5 Å apart. Bounds of ``target`` are those
    of the observation space.

    Args:
        max_sites: N.
        n_elements: V.
        pairs: Whether the layout has the block ``pairs``.
        target: The space of the observation ``target``, float32 (T,), if there is one.
    """

    max_sites: int
    n_elements: int
    pairs: bool = False
    target: spaces.Box | None = None

    @classmethod
    def from_space(cls, space: spaces.Space, pairs: bool = False) -> Self:
        """Return the layout for an observation space of ``CrystalSkeleton-v0``.

        Args:
            space: The space of a single environment, or ``dataset.observation_space``.
            pairs: Whether the layout has the block ``pairs``.

        Raises:
            CrystalGymError: If the space is another one.
        """
        keys = set(space) if isinstance(space, spaces.Dict) else set()
        if not isinstance(space, spaces.Dict) or keys - {"target"} != {
            "element",
            "focus",
            *GEOMETRY,
        }:
            raise CrystalGymError(
                f"Expected the Dict observation space of CrystalSkeleton-v0, got {space}. Wrap the "
                "environment before other wrappers change its observations."
            )
        element, target = space["element"], space.get("target")
        if not isinstance(element, spaces.Box) or len(element.shape) != 1:
            raise CrystalGymError(
                f"Expected the space of a single environment, got {space}. Pass "
                "single_observation_space of a vector environment."
            )
        return cls(element.shape[0], int(element.high[0]), pairs, target)  # type: ignore[arg-type]

    @cached_property
    def blocks(self) -> dict[str, slice]:
        """The place of each block in the vector, by name."""
        n = self.max_sites
        lengths = {
            "element": n * (self.n_elements + 1),
            "focus": n,
            "frac_coords": 3 * n,
            "lattice": 6,
            **({"pairs": n * (n + 1) // 2} if self.pairs else {}),
            **({"target": self.target.shape[0]} if self.target is not None else {}),
        }
        stops = np.cumsum(list(lengths.values())).tolist()
        return {
            name: slice(stop - length, stop)
            for (name, length), stop in zip(lengths.items(), stops, strict=True)
        }

    @cached_property
    def size(self) -> int:
        """D, the length of a flat observation."""
        return list(self.blocks.values())[-1].stop

    @property
    def geometry_keys(self) -> tuple[str, ...]:
        """The keys of an observation that ``geometry`` reads."""
        return GEOMETRY if self.pairs else GEOMETRY[:2]

    @cached_property
    def geometry_block(self) -> slice:
        """The place of the blocks that ``geometry`` returns."""
        last = self.blocks["pairs" if self.pairs else "lattice"]
        return slice(self.blocks["frac_coords"].start, last.stop)

    def space(self) -> spaces.Box:
        """Return the space of flat observations, a new ``Box`` of shape (D,)."""
        low, high = np.zeros(self.size, np.float32), np.ones(self.size, np.float32)
        high[self.blocks["lattice"]] = _LATTICE_HIGH
        if self.pairs:
            high[self.blocks["pairs"]] = _PAIR_HIGH
        if self.target is not None:
            low[self.blocks["target"]] = self.target.low
            high[self.blocks["target"]] = self.target.high
        return spaces.Box(low, high, dtype=np.float32)

    def geometry(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the blocks ``frac_coords``, ``lattice`` and ``pairs``, one after the other.

        Args:
            observation: The arrays ``frac_coords``, ``lattice`` and, for pairs, ``edges``, with any
                leading axes.

        Returns:
            A new array, float32 (…, G).

        Raises:
            CrystalGymError: If a lattice is outside its bounds.
        """
        frac_coords, lattice = observation["frac_coords"], observation["lattice"]
        axes = lattice.shape[:-1]
        parts = [frac_coords.reshape(*axes, 3 * self.max_sites), _scale_lattice(lattice)]
        if self.pairs:
            parts.append(self._pair_features(frac_coords, lattice, observation["edges"]))
        return np.concatenate(parts, axis=-1, dtype=np.float32)

    def flatten(
        self, observation: Mapping[str, Any], geometry: np.ndarray | None = None
    ) -> np.ndarray:
        """Return flat observations.

        Args:
            observation: One observation, or arrays with leading axes: a batch, the observations of
                an episode, or batches of episodes. Keys without a block are ignored.
            geometry: ``self.geometry(observation)``, if it is known. It can have axes of length 1
                in place of those that share a skeleton.

        Returns:
            A new array, float32 (…, D).

        Raises:
            CrystalGymError: If a code, a focus or a lattice is outside its bounds, or the arrays
                have another number of sites.
        """
        element, focus = np.asarray(observation["element"]), np.asarray(observation["focus"])
        self._check(element, focus)
        flat = np.zeros((*element.shape[:-1], self.size), np.float32)
        start = np.arange(0, flat.size, self.size).reshape(focus.shape)
        focus_place = start + self.blocks["focus"].start + focus
        place = (start[..., None] + self._element_places) + element
        # Padding has no place: its 1 is written to that of the focus.
        place = np.where(element < 0, focus_place[..., None], place)
        values = flat.reshape(-1)
        values[place] = 1
        values[focus_place] = 1
        if geometry is None:
            geometry = self.geometry(observation)
        flat[..., self.geometry_block] = geometry
        if self.target is not None:
            flat[..., self.blocks["target"]] = observation["target"]
        return flat

    def check_lattice(self, lattice: np.ndarray) -> None:
        """Raise a ``CrystalGymError`` if one of the lattices, (…, 6), is outside its bounds."""
        _scale_lattice(lattice)

    def unflatten(self, flat: np.ndarray, edges: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the ``Dict`` observations of flat observations.

        All keys are exact. A flat observation does not contain the edges, because the block
        ``pairs`` has neither the images of neighbors nor all edges of a pair.

        Args:
            flat: Flat observations, float32 (…, D).
            edges: The edges of the crystals, int32 (…, E, 5), as in
                ``env.unwrapped.table.geometry(info["crystal"])["edges"]``.

        Returns:
            New arrays ``element``, ``frac_coords``, ``lattice``, ``focus``, ``target`` if there is
            one, and ``edges`` if they are given, in the types of the observation space.

        Raises:
            CrystalGymError: If the last axis is not D.
        """
        if flat.shape[-1] != self.size:
            raise CrystalGymError(
                f"Expected flat observations of length {self.size}, got shape {flat.shape}. Use "
                "the layout of their environment."
            )
        axes, n = flat.shape[:-1], self.max_sites
        blocks = {name: flat[..., place] for name, place in self.blocks.items()}
        one_hot = blocks["element"].reshape(*axes, n, self.n_elements + 1)
        element = np.where(one_hot.any(axis=-1), one_hot.argmax(axis=-1), -1)
        observation = {
            "element": element.astype(np.int32),
            "frac_coords": blocks["frac_coords"].reshape(*axes, n, 3).copy(),
            "lattice": blocks["lattice"] * _UNITS,
            "focus": blocks["focus"].argmax(axis=-1),
        }
        if edges is not None:
            observation["edges"] = edges.astype(np.int32)
        if self.target is not None:
            observation["target"] = blocks["target"].copy()
        return observation

    @cached_property
    def _element_places(self) -> np.ndarray:
        """The place of each site's code 0 in the vector, int64 (N,)."""
        return np.arange(self.max_sites) * (self.n_elements + 1)

    @cached_property
    def _pair_index(self) -> np.ndarray:
        """The place of the pair (s, t) in the block ``pairs``, for s ≤ t, int64 (N, N)."""
        index = np.zeros((self.max_sites, self.max_sites), np.int64)
        index[np.triu_indices(self.max_sites)] = np.arange(
            self.max_sites * (self.max_sites + 1) // 2
        )
        return index

    def _pair_features(
        self, frac_coords: np.ndarray, lattice: np.ndarray, edges: np.ndarray
    ) -> np.ndarray:
        """Return the inverse of the shortest edge of each pair in 1/Å, float32 (…, N (N + 1)/2)."""
        axes, n = lattice.shape[:-1], self.max_sites
        n_pairs = n * (n + 1) // 2
        coords = frac_coords.reshape(-1, 3).astype(np.float64)
        edges = edges.reshape(-1, edges.shape[-2], 5)
        source, target = edges[..., 0], edges[..., 1]
        # Each edge comes with its reverse, so those with source ≤ target are enough.
        chosen = np.flatnonzero((source >= 0) & (source <= target))
        crystal = chosen // edges.shape[1]
        edges = edges.reshape(-1, 5).take(chosen, axis=0)
        source, target = edges[:, 0], edges[:, 1]
        steps = coords.take(crystal * n + target, axis=0) - coords.take(
            crystal * n + source, axis=0
        )
        steps += edges[:, 2:]
        matrices = lattice_matrix(lattice.reshape(-1, 6)).take(crystal, axis=0)
        vectors = np.einsum("ei,eij->ej", steps, matrices)
        lengths = np.sqrt(np.einsum("ei,ei->e", vectors, vectors))
        # Rounding to float32 can shorten the shortest distance that skeletons allow.
        inverse = np.minimum(1 / lengths, _PAIR_HIGH)
        features = np.zeros(math.prod(axes) * n_pairs)
        np.maximum.at(features, crystal * n_pairs + self._pair_index[source, target], inverse)
        return features.reshape(*axes, n_pairs).astype(np.float32)

    def _check(self, element: np.ndarray, focus: np.ndarray) -> None:
        n, v = self.max_sites, self.n_elements
        if element.shape != (*focus.shape, n):
            raise CrystalGymError(
                f"Expected elements of shape {(*focus.shape, n)}, got {element.shape}. Use the "
                "layout of the observations' environment or dataset."
            )
        if element.size and (element.min() < -1 or element.max() > v):
            raise CrystalGymError(
                f"Expected codes of elements from -1 to {v}, got {element.min()} to "
                f"{element.max()}. Use the layout of the observations' vocabulary."
            )
        if focus.size and (focus.min() < 0 or focus.max() >= n):
            raise CrystalGymError(
                f"Expected sites in focus from 0 to {n - 1}, got {focus.min()} to {focus.max()}. "
                "Use the layout of the observations' environment or dataset."
            )


def _scale_lattice(lattice: np.ndarray) -> np.ndarray:
    """Return lengths / 8 Å and angles / 128°, (…, 6), after a check of their bounds."""
    scaled = lattice / _UNITS
    # NaN fails the comparisons as well.
    if not ((scaled >= 0) & (scaled <= _LATTICE_HIGH)).all():
        rows = lattice.reshape(-1, 6)
        wrong = ~((rows >= 0) & (rows <= _LATTICE_HIGH * _UNITS)).all(axis=1)
        raise CrystalGymError(
            f"Expected cells with lengths up to {LONGEST_CELL:g} Å and angles up to 180°, got "
            f"{rows[np.argmax(wrong)].tolist()}. Use the Dict observations for this crystal."
        )
    return scaled
