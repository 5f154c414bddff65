"""Synthetic crystals, sampled from a density of known crystals, and their posterior."""

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

from crystal_agents.synthetic.config import SyntheticConfig
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

# Part of the cache keys; increase it when a change gives different crystals for equal settings.
FORMAT = 2
# Number of crystals whose posteriors are computed together.
_CHUNK = 32
# Synthetic coordinates may exceed the range of the known ones by this fraction of the range.
_MARGIN = 0.02


@dataclass(frozen=True, eq=False)
class SyntheticCrystals:
    """C synthetic crystals with the posterior of their fillings.

    Attributes:
        collection: The crystals as a collection; all are in the split ``train``.
        fillings: Codes of the design space, int64 (G, n).
        candidates: The L most probable fillings of each crystal, rows of ``fillings``, int32
            (C, L).
        probability: Probabilities of the candidates, float16 (C, L). Their sum is at most 1,
            except for rounding.
    """

    collection: CrystalCollection
    fillings: np.ndarray
    candidates: np.ndarray
    probability: np.ndarray

    def __len__(self) -> int:
        return len(self.candidates)


class SyntheticGenerator:
    """A generator of synthetic crystals, fitted to known crystals of one prototype.

    Args:
        data: Transitions of an expert. The known crystals and fillings are taken only from them.
        config: Settings (default: those of ``SyntheticConfig``).
        folder: Folder of the fitted networks (default: in the cache folder).

    Attributes:
        prototype: The prototype of the known crystals.
        space: The possible fillings, derived from the known fillings.
        fingerprint: Digest of the known crystals, part of the cache keys.

    Raises:
        NoPrototypeError: If the crystals are not variations of one prototype.
    """

    def __init__(
        self,
        data: "Transitions",
        config: SyntheticConfig | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config = config or SyntheticConfig()
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
        """Return the fitted networks after fitting those that the folder lacks, in parallel.

        Args:
            progress: Show a progress bar.

        Raises:
            DamagedFileError: If a file in the folder is damaged.
            StorageError: If the folder cannot be written.
        """
        seeds = [self.config.seed * 1000 + i for i in range(self.config.members)]
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
        """Return p(filling | geometry) over the design space.

        Args:
            progress: Show a progress bar.
        """
        return Posterior(self.members(progress=progress), torch.as_tensor(self.space.choices))

    def crystals(self, *, progress: bool = True) -> SyntheticCrystals:
        """Return the synthetic crystals, from the cache if possible.

        Args:
            progress: Show progress bars.

        Raises:
            DamagedFileError: If a cached file is damaged.
            StorageError: If the cache folder cannot be written.
        """
        config_key = json.dumps([FORMAT, dataclasses.asdict(self.config)])
        key = hashlib.sha256(f"{self.fingerprint}{config_key}".encode()).hexdigest()[:16]
        collection = prepared_collection(
            "synthetic",
            key,
            lambda: self._sample(progress=progress),
            order=file_order,
            description="Crystals sampled from a density of known crystals.",
            progress=progress,
        )
        path = self.folder / f"posterior-{key}.npz"
        if not path.is_file():
            save_arrays(path, self._candidates(collection, progress=progress))
        return SyntheticCrystals(collection, self.space.fillings, **load_arrays(path))

    def _path(self, seed: int) -> Path:
        record = json.dumps([self.config.steps, dataclasses.asdict(self.config.density)])
        digest = hashlib.sha256(record.encode()).hexdigest()[:8]
        return self.folder / f"density-{digest}-{seed}.safetensors"

    def _new_density(self) -> GeometryDensity:
        mirror = torch.as_tensor(self.prototype.mirror, dtype=torch.float32)
        return GeometryDensity(
            [len(elements) for elements in self.space.elements],
            self._coordinates.shape[1],
            mirror if self.prototype.inverts and self.prototype.moves.any() else None,
            embedding=self.config.density.embedding,
            dropout=self.config.density.dropout,
        )

    def _fit(self, seed: int) -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        # Denormal numbers, as in the moments of AdamW, take a fifth of the time.
        torch.set_flush_denormal(True)
        torch.manual_seed(seed)
        density = fit_density(
            self._new_density(),
            self._choices,
            self._coordinates,
            seed=seed,
            steps=self.config.steps,
            weight_decay=self.config.density.weight_decay,
        )
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
        with atomic_write(self._path(seed)) as temporary:
            save_file(density.state_dict(), temporary)

    def _load(self, seed: int) -> GeometryDensity:
        density = self._new_density()
        try:
            density.load_state_dict(load_file(self._path(seed)))
        except (SafetensorError, RuntimeError) as error:
            raise DamagedFileError(
                f"{self._path(seed)} is damaged: {error}. Delete the file to fit it again."
            ) from error
        return density.eval()

    def _sample(self, *, progress: bool) -> list[RawCrystal]:
        members = self.members(progress=progress)
        generator = torch.Generator().manual_seed(self.config.seed)
        low, high = self._coordinates.amin(0), self._coordinates.amax(0)
        margin = _MARGIN * (high - low)
        raw = []
        for repeat in range(self.config.per_filling):
            density = members[repeat % len(members)]
            with torch.no_grad():
                coordinates = density(torch.as_tensor(self.space.choices)).sample(generator)
            in_range = ((coordinates > low - margin) & (coordinates < high + margin)).all(1)
            rows = in_range.nonzero()[:, 0].numpy()
            frac_coords, parameters = self.prototype.geometry(coordinates[in_range].numpy())
            for row, frac, cell in zip(rows, frac_coords, parameters, strict=True):
                symbols = [self.vocabulary[code - 1] for code in self.space.fillings[row]]
                text = _poscar(lattice_matrix(cell), frac, symbols)
                raw.append(RawCrystal(f"{repeat}-{row}", "train", text, "poscar", "synthetic"))
        return raw

    def _candidates(
        self, collection: CrystalCollection, *, progress: bool
    ) -> Mapping[str, np.ndarray]:
        posterior = self.posterior(progress=progress)
        coordinates = torch.as_tensor(
            self.prototype.coordinates(collection.frac_coords, collection.parameters),
            dtype=torch.float32,
        )
        shape = len(coordinates), min(self.config.candidates, len(self.space))
        # Each chunk is written to arrays of their final size: many small arrays, kept between
        # large temporary ones, would fragment the memory.
        candidates, probability = np.empty(shape, np.int32), np.empty(shape, np.float16)

        def store_most_probable(first: int) -> int:
            rows = slice(first, first + _CHUNK)
            best = posterior.log_probability(coordinates[rows]).topk(shape[1], dim=1)
            candidates[rows], probability[rows] = best.indices, best.values.exp().half()
            return len(best.indices)

        import joblib

        with progress_bar("Computing posteriors", len(coordinates), shown=progress) as advance:
            # Threads, which write to the same arrays: PyTorch releases the interpreter lock.
            parallel = joblib.Parallel(n_jobs=-1, require="sharedmem", return_as="generator")
            starts = range(0, len(coordinates), _CHUNK)
            results: Any = parallel(joblib.delayed(store_most_probable)(start) for start in starts)
            for stored in results:
                advance(stored)
        return {"candidates": candidates, "probability": probability}


def _poscar(lattice: np.ndarray, frac_coords: np.ndarray, symbols: list[str]) -> str:
    """Return a crystal as POSCAR text, which needs 1 % of the memory of a ``Structure``."""
    rows = [" ".join(f"{x:.12f}" for x in row) for row in (*lattice, *frac_coords)]
    species = [" ".join(symbols), " ".join("1" for _ in symbols)]
    return "\n".join(["synthetic", "1.0", *rows[:3], *species, "Direct", *rows[3:], ""])
