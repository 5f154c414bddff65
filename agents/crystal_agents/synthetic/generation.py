"""Synthetic crystals: what a density of known ones makes, each with the fillings that fit it."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from crystal_agents.synthetic.design_space import DesignSpace
from crystal_agents.synthetic.mixture_density import GeometryDensity, Posterior, fit_density
from crystal_agents.synthetic.prototype import Prototype
from crystal_gym.collections.collection import CrystalCollection
from crystal_gym.collections.preparation import (
    RawCrystal,
    file_order,
    load_arrays,
    prepared_collection,
    save_arrays,
)
from crystal_gym.crystals.skeleton import lattice_matrix
from crystal_gym.errors import DamagedFileError
from crystal_gym.utils import settings
from crystal_gym.utils.files import atomic_write
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions

# Raise when the same settings would give other crystals.
FORMAT = 1
# Crystals whose posterior is computed together.
_CHUNK = 32
# Synthetic coordinates may leave the range of the known ones by this share of it.
_MARGIN = 0.02


@dataclass(frozen=True)
class SyntheticConfig:
    """How synthetic crystals are made.

    Attributes:
        members: density networks of different seeds, whose mean is the density.
        steps: of the fit of each.
        per_filling: crystals for each filling of the design space.
        candidates: most probable fillings kept with each crystal.
        seed: of the fits and of the crystals.
    """

    members: int = 2
    steps: int = 8000
    per_filling: int = 3
    candidates: int = 256
    seed: int = 0


@dataclass(frozen=True, eq=False)
class SyntheticCrystals:
    """C crystals that a density model made, with its posterior of their fillings.

    Attributes:
        collection: the crystals as a collection of their own, split ``train`` throughout.
        fillings: the design space, codes int64 (G, n).
        candidates: the most probable fillings of each crystal, rows of ``fillings``, int32 (C, L).
        probability: theirs, float16 (C, L), their sum 1 but for what lies beyond the L.
    """

    collection: CrystalCollection
    fillings: np.ndarray
    candidates: np.ndarray
    probability: np.ndarray

    def __len__(self) -> int:
        return len(self.candidates)


class SyntheticGenerator:
    """Known crystals of one prototype, and p(geometry | elements) fitted to them.

    Args:
        data: transitions of an expert; crystals and fillings are taken from them alone.
        synthesis: settings.
        folder: where the fitted members are kept (default: in the cache folder).

    Raises:
        NoPrototypeError: the crystals are not variations of one prototype.
    """

    def __init__(
        self,
        data: "Transitions",
        synthesis: SyntheticConfig | None = None,
        folder: Path | None = None,
    ) -> None:
        self.synthesis = synthesis or SyntheticConfig()
        self.vocabulary = data.vocabulary
        self.prototype = Prototype.of(data.n_sites, data.frac_coords, data.lattice)
        n = len(self.prototype.reference)
        codes = np.zeros((len(data.n_sites), n), np.int64)
        codes[data.skeleton, data.focus] = data.action + 1
        known = (codes > 0).all(1)
        self.space = DesignSpace.of(codes[known])
        self._choices = torch.as_tensor(self.space.choices_of(codes[known]))
        coordinates = self.prototype.coordinates(data.frac_coords[known], data.lattice[known])
        self._coordinates = torch.as_tensor(coordinates, dtype=torch.float32)
        digest = hashlib.sha256(json.dumps([FORMAT, self.vocabulary]).encode())
        for array in (coordinates, codes[known]):
            digest.update(np.ascontiguousarray(array).tobytes())
        self.fingerprint = digest.hexdigest()[:16]
        self.folder = folder or settings.cache_folder() / "synthetic" / self.fingerprint

    def members(self, *, progress: bool = True) -> list[GeometryDensity]:
        """The fitted networks, from the folder where they stand there, in parallel processes.

        Raises:
            DamagedFileError: a file in the folder is damaged.
            StorageError: the folder cannot be written.
        """
        seeds = [self.synthesis.seed * 1000 + i for i in range(self.synthesis.members)]
        missing = [seed for seed in seeds if not self._path(seed).is_file()]
        if missing:
            import joblib

            with progress_bar("Fitting densities", len(missing), shown=progress) as advance:
                parallel = joblib.Parallel(
                    n_jobs=min(len(missing), os.cpu_count() or 1),
                    return_as="generator_unordered",
                )
                for _ in parallel(joblib.delayed(self._fit)(seed) for seed in missing):
                    advance(1)
        return [self._load(seed) for seed in seeds]

    def posterior(self, *, progress: bool = True) -> Posterior:
        """p(filling | geometry) over the design space."""
        return Posterior(self.members(progress=progress), torch.as_tensor(self.space.choices))

    def crystals(self, *, progress: bool = True) -> SyntheticCrystals:
        """The synthetic crystals, from the cache where they stand there.

        Raises:
            DamagedFileError: a cached file is damaged.
            StorageError: the cache folder cannot be written.
        """
        settings_key = json.dumps([FORMAT, dataclasses.asdict(self.synthesis)])
        key = hashlib.sha256(f"{self.fingerprint}{settings_key}".encode()).hexdigest()[:16]
        collection = prepared_collection(
            "synthetic",
            key,
            lambda: self._sample(progress=progress),
            order=file_order,
            description="Crystals that a density model of known ones made.",
            progress=progress,
        )
        path = self.folder / f"posterior-{key}.npz"
        if not path.is_file():
            save_arrays(path, self._candidates(collection, progress=progress))
        return SyntheticCrystals(collection, self.space.fillings, **load_arrays(path))

    def _path(self, seed: int) -> Path:
        return self.folder / f"density-{self.synthesis.steps}-{seed}.safetensors"

    def _fresh(self) -> GeometryDensity:
        mirror = torch.as_tensor(self.prototype.mirror, dtype=torch.float32)
        return GeometryDensity(
            [len(elements) for elements in self.space.elements],
            self._coordinates.shape[1],
            mirror if self.prototype.inverts and self.prototype.moves.any() else None,
        )

    def _fit(self, seed: int) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        density = fit_density(
            self._fresh(), self._choices, self._coordinates, seed=seed, steps=self.synthesis.steps
        )
        torch.set_num_threads(threads)
        with atomic_write(self._path(seed)) as beside:
            save_file(density.state_dict(), beside)

    def _load(self, seed: int) -> GeometryDensity:
        density = self._fresh()
        try:
            density.load_state_dict(load_file(self._path(seed)))
        except (SafetensorError, RuntimeError) as error:
            raise DamagedFileError(
                f"{self._path(seed)} is damaged: {error}. Delete it; it is made again."
            ) from error
        return density.eval()

    def _sample(self, *, progress: bool) -> list[RawCrystal]:
        members = self.members(progress=progress)
        generator = torch.Generator().manual_seed(self.synthesis.seed)
        low, high = self._coordinates.amin(0), self._coordinates.amax(0)
        margin = _MARGIN * (high - low)
        raw = []
        for turn in range(self.synthesis.per_filling):
            density = members[turn % len(members)]
            with torch.no_grad():
                coordinates = density(torch.as_tensor(self.space.choices)).sample(generator)
            inside = ((coordinates > low - margin) & (coordinates < high + margin)).all(1)
            rows = inside.nonzero()[:, 0].numpy()
            frac_coords, parameters = self.prototype.geometry(coordinates[inside].numpy())
            for row, frac, cell in zip(rows, frac_coords, parameters, strict=True):
                symbols = [self.vocabulary[code - 1] for code in self.space.fillings[row]]
                text = _poscar(lattice_matrix(cell), frac, symbols)
                raw.append(RawCrystal(f"{turn}-{row}", "train", text, "poscar", "synthetic"))
        return raw

    def _candidates(
        self, collection: CrystalCollection, *, progress: bool
    ) -> Mapping[str, np.ndarray]:
        posterior = self.posterior(progress=progress)
        coordinates = torch.as_tensor(
            self.prototype.coordinates(collection.frac_coords, collection.parameters),
            dtype=torch.float32,
        )
        size = min(self.synthesis.candidates, len(self.space))

        def weigh(chunk: Tensor) -> tuple[Tensor, Tensor]:
            best = posterior.log_probability(chunk).topk(size, dim=1)
            return best.indices.to(torch.int32), best.values.exp().half()

        import joblib

        found: list[tuple[Tensor, Tensor]] = []
        with progress_bar("Weighing fillings", len(coordinates), shown=progress) as advance:
            # PyTorch lets go of the interpreter: threads are enough.
            parallel = joblib.Parallel(n_jobs=-1, prefer="threads", return_as="generator")
            weighed: Any = parallel(joblib.delayed(weigh)(c) for c in coordinates.split(_CHUNK))
            for part in weighed:
                found.append(part)
                advance(len(part[0]))
        indices, probability = zip(*found, strict=True)
        return {
            "candidates": torch.cat(indices).numpy(),
            "probability": torch.cat(probability).numpy(),
        }


def _poscar(lattice: np.ndarray, frac_coords: np.ndarray, symbols: list[str]) -> str:
    """A crystal as POSCAR text, a hundredth of the memory of a ``Structure``."""
    rows = [" ".join(f"{x:.12f}" for x in row) for row in (*lattice, *frac_coords)]
    species = [" ".join(symbols), " ".join("1" for _ in symbols)]
    return "\n".join(["synthetic", "1.0", *rows[:3], *species, "Direct", *rows[3:], ""])
