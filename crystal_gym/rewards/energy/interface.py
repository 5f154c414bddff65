"""The interface of energy models, and helpers shared by its implementations."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from crystal_gym.collections.collection import formula
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import CrystalGymError

_log = logging.getLogger(__name__)

# A skeleton and the atomic numbers on its sites, (n,).
FilledSkeleton = tuple[Skeleton, np.ndarray]


class EnergyModel(Protocol):
    """A model that computes the energies of filled skeletons.

    Attributes:
        name: Name of the model, for messages.
        reference_energies: Energies of the pure elements in eV/atom, by symbol, for every element
            that the model supports; ``None`` if they are computed with the model when needed.
        sites_per_batch: Crystals with up to this number of sites in all are computed together.
    """

    name: str
    reference_energies: Mapping[str, float] | None
    sites_per_batch: int

    def energies(self, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
        """Compute energies at the geometry of the skeletons.

        Args:
            crystals: k skeletons, each with the atomic numbers on its sites, (n,).

        Returns:
            eV/atom, float64 (k,); NaN where the computation failed.
        """
        ...


def split_by_sites(crystals: Sequence[FilledSkeleton], limit: int) -> Iterator[list[int]]:
    """Yield the indices of consecutive crystals with up to ``limit`` sites, or of a larger one.

    Args:
        crystals: Skeletons with the atomic numbers on their sites.
        limit: Largest number of sites of several crystals, 1 or more.
    """
    batch: list[int] = []
    sites = 0
    for index, (_, numbers) in enumerate(crystals):
        if batch and sites + len(numbers) > limit:
            yield batch
            batch, sites = [], 0
        batch.append(index)
        sites += len(numbers)
    if batch:
        yield batch


class FailureLog:
    """A log that catches errors of single crystals, so that the others are still computed.

    The first error is logged as a warning; every error is logged with its traceback at level
    ``DEBUG``. A ``CrystalGymError``, such as a missing package, is raised.
    """

    def __init__(self) -> None:
        self._warned = False

    @contextlib.contextmanager
    def catch(self, numbers: np.ndarray) -> Iterator[None]:
        """Catch and log an error raised in the block.

        Args:
            numbers: Atomic numbers of the crystal, for the message.

        Raises:
            CrystalGymError: If the block raises one.
        """
        try:
            yield
        except CrystalGymError:
            raise
        except Exception as error:  # noqa: BLE001 - calculators may raise anything
            name, kind = formula(numbers), type(error).__name__
            if not self._warned:
                _log.warning("No energy for a crystal %s: %s: %s", name, kind, error)
                self._warned = True
            _log.debug("No energy for a crystal %s", name, exc_info=True)


def missing_package(package: str) -> CrystalGymError:
    """Return the error for a package of the extra ``energy`` that is not installed."""
    return CrystalGymError(
        f"{package} is not installed. Energies need an extra: pip install 'crystal-gym[energy]'."
    )
