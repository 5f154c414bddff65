"""The machine-learning potential CHGNet, evaluated in batches.

Everything that is specific to CHGNet is in this module: the optional package, the device, data
types, batches and the reference energies of its elements.
"""

import contextlib
import copy
import importlib.util
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import CrystalGymError
from crystal_gym.rewards.energy.interface import (
    FailureLog,
    FilledSkeleton,
    missing_package,
    split_by_sites,
)
from crystal_gym.rewards.energy.lru_cache import LRUCache
from crystal_gym.rewards.energy.reference_crystals import reference_elements

if TYPE_CHECKING:
    from chgnet.graph.crystalgraph import CrystalGraph
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

_log = logging.getLogger(__name__)

# Name of the model, which distinguishes it from ASE's calculators.
CHGNET = "chgnet"
# Version of the weights.
WEIGHTS_VERSION = "0.3.0"

# Number of cached graphs, about 50 kB each for cells of five sites.
_CACHED_GRAPHS = 2048


class ChgnetEnergy:
    """CHGNet 0.3.0 (Deng et al., Nat. Mach. Intell. 5, 1031, 2023), with weights from its package.

    The graph depends on the geometry only. It is made once for each skeleton and then copied with
    the elements of each filling. A site without another site within 6 Å has no graph, which counts
    as a failure.

    Args:
        device: PyTorch's name of the device.

    Raises:
        CrystalGymError: If the package is not installed or the device name is invalid.
    """

    name = CHGNET
    # Larger batches exceed the processor's cache.
    sites_per_batch = 64

    def __init__(self, device: str = "cpu") -> None:
        _require_package()
        import torch

        # Only the name is checked: using a GPU here would prevent its use in processes forked
        # later.
        with _check_device(device):
            torch.device(device)
        self.device = device
        self.reference_energies: Mapping[str, float] | None = {
            symbol: entry["energy"] for symbol, entry in reference_elements().items()
        }
        self._model: CHGNet | None = None
        self._graphs = LRUCache(_CACHED_GRAPHS)
        self._failures = FailureLog()

    def energies(self, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
        """Compute energies in eV/atom; see ``EnergyModel.energies``."""
        import torch

        values = np.full(len(crystals), np.nan)
        model = self.model  # outside the loop: a failure to load is not a crystal's
        graphs: dict[int, CrystalGraph] = {}
        for index, (skeleton, numbers) in enumerate(crystals):
            with self._failures.catch(numbers):
                graph = copy.copy(self._graph(skeleton))
                graph.atomic_number = torch.tensor(numbers, dtype=torch.int32)
                graphs[index] = graph.to(self.device)
        for batch in split_by_sites(crystals, self.sites_per_batch):
            found = [index for index in batch if index in graphs]
            if found:
                with torch.no_grad():
                    energies = model([graphs[index] for index in found], task="e")["e"]
                values[found] = energies.cpu().double().numpy()
        return values

    def __reduce__(self) -> tuple:
        """Pickle by the device: the network and the graphs are made where they are used."""
        return ChgnetEnergy, (self.device,)

    @property
    def model(self) -> "CHGNet":
        """The network, loaded at the first use.

        Raises:
            CrystalGymError: If the device is not available.
        """
        if self._model is None:
            with _check_device(self.device):
                self._model = load_chgnet(self.device)
        return self._model

    def _graph(self, skeleton: Skeleton) -> "CrystalGraph":
        key = skeleton.parameters.tobytes() + skeleton.frac_coords.tobytes()
        if key not in self._graphs:
            graph = self.model.graph_converter(skeleton.fill([1] * skeleton.n_sites))
            # CHGNet tracks gradients for forces, which are not needed here.
            graph.lattice = graph.lattice.detach()
            graph.atom_frac_coord = graph.atom_frac_coord.detach()
            self._graphs[key] = graph
        return self._graphs[key]


def load_chgnet(device: str = "cpu") -> "CHGNet":
    """Load the network in evaluation mode.

    Args:
        device: PyTorch's name of the device.

    Raises:
        CrystalGymError: If the package is not installed.
    """
    _require_package()
    from chgnet.model.model import CHGNet

    # CHGNet prints a message when it loads; standard output is reserved for results.
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        model = CHGNet.load(model_name=WEIGHTS_VERSION, use_device=device).eval()
    _log.debug("%s", output.getvalue().strip())
    return model


def make_ase_calculator() -> "CHGNetCalculator":
    """Make an ASE calculator of CHGNet on the CPU, for relaxations.

    Raises:
        CrystalGymError: If the package is not installed.
    """
    model = load_chgnet()
    from chgnet.model.dynamics import CHGNetCalculator

    # It prints the device.
    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNetCalculator(model, use_device="cpu")


def _require_package() -> None:
    if importlib.util.find_spec("chgnet") is None:
        raise missing_package("CHGNet")


@contextlib.contextmanager
def _check_device(device: str) -> Iterator[None]:
    """Convert PyTorch's errors for unknown and unavailable devices to a ``CrystalGymError``."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        raise CrystalGymError(
            f"CHGNet cannot run on the device {device!r}: {error} Use 'cpu' or the name of a "
            "device that PyTorch finds."
        ) from error
