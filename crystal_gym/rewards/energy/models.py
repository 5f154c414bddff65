"""What computes the energy of a filled skeleton: CHGNet, in batches, or any ASE calculator."""

import contextlib
import copy
import importlib.util
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from crystal_gym.collections.collection import formula
from crystal_gym.crystals.skeleton import Skeleton
from crystal_gym.errors import CrystalGymError, UnknownNameError
from crystal_gym.rewards.energy.lru_cache import LRUCache

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator
    from chgnet.graph.crystalgraph import CrystalGraph
    from chgnet.model.model import CHGNet

_log = logging.getLogger(__name__)

# The name of the potential that comes with the extra; all other names are ASE's.
CHGNET = "chgnet"
# Sites in one pass of CHGNet; more no longer fit the caches of a processor.
_SITES_AT_ONCE = 64
# Graphs that are remembered, about 50 kB each for cells of five sites.
_GRAPHS = 2048

FilledSkeleton = tuple[Skeleton, np.ndarray]


class EnergyModel(Protocol):
    """Energies of filled skeletons."""

    name: str

    def energies(self, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
        """Energies at the skeletons' own geometry.

        Args:
            crystals: k skeletons, each with the atomic numbers on its sites, (n,).

        Returns:
            eV/atom, float64 (k,); NaN where the computation failed.
        """
        ...


class ChgnetEnergy:
    """CHGNet 0.3.0 (Deng et al., Nat. Mach. Intell. 5, 1031, 2023), weights from its package.

    Its graph knows the geometry alone, so it is made once a skeleton, and the elements are put on
    it. Crystals with a site that has no other within 6 Å have none, which is a failure.

    Args:
        device: PyTorch's name of where the network runs.

    Raises:
        CrystalGymError: the package is not installed, or no device has this name.
    """

    name = CHGNET

    def __init__(self, device: str = "cpu") -> None:
        if importlib.util.find_spec("chgnet") is None:
            raise CrystalGymError(_missing("CHGNet"))
        import torch

        # The name alone: touching a GPU here would keep it from processes that are forked later.
        with _on(device):
            torch.device(device)
        self.device = device
        self._model: CHGNet | None = None
        self._graphs = LRUCache(_GRAPHS)
        self._survived = _SurvivedErrors()

    def energies(self, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
        """See ``EnergyModel``."""
        import torch

        values = np.full(len(crystals), np.nan)
        model = self.model  # if it cannot be loaded, that is no failure of a crystal
        graphs: dict[int, CrystalGraph] = {}
        for index, (skeleton, numbers) in enumerate(crystals):
            with self._survived(numbers):
                graph = copy.copy(self._graph(skeleton))
                graph.atomic_number = torch.tensor(numbers, dtype=torch.int32)
                graphs[index] = graph.to(self.device)
        for some in _batches(graphs):
            with torch.no_grad():
                energies = model([graphs[index] for index in some], task="e")["e"]
            values[some] = energies.cpu().double().numpy()
        return values

    @property
    def model(self) -> "CHGNet":
        """The network, loaded at the first use.

        Raises:
            CrystalGymError: the device is not there.
        """
        if self._model is None:
            with _on(self.device):
                self._model = load_chgnet(self.device)
        return self._model

    def _graph(self, skeleton: Skeleton) -> "CrystalGraph":
        key = skeleton.parameters.tobytes() + skeleton.frac_coords.tobytes()
        if key not in self._graphs:
            graph = self.model.graph_converter(skeleton.fill([1] * skeleton.n_sites))
            # CHGNet makes them ready for forces, which nobody asks for here.
            graph.lattice = graph.lattice.detach()
            graph.atom_frac_coord = graph.atom_frac_coord.detach()
            self._graphs[key] = graph
        return self._graphs[key]


@contextlib.contextmanager
def _on(device: str) -> Iterator[None]:
    try:
        yield
    # What PyTorch raises for unknown and for missing devices.
    except (RuntimeError, AssertionError) as error:
        raise CrystalGymError(
            f"CHGNet cannot run on the device {device!r} here: {error} Take 'cpu', or the name of "
            "a device that PyTorch finds."
        ) from error


def load_chgnet(device: str = "cpu") -> "CHGNet":
    """CHGNet 0.3.0, ready to be asked."""
    from chgnet.model.model import CHGNet

    # It greets on standard output, which is for results.
    with contextlib.redirect_stdout(io.StringIO()):
        return CHGNet.load(model_name="0.3.0", use_device=device).eval()


def _batches(graphs: "Mapping[int, CrystalGraph]") -> Iterator[list[int]]:
    """The indices in portions of at most ``_SITES_AT_ONCE`` sites, or of one larger crystal."""
    batch: list[int] = []
    sites = 0
    for index, graph in graphs.items():
        n = len(graph.atomic_number)
        if batch and sites + n > _SITES_AT_ONCE:
            yield batch
            batch, sites = [], 0
        batch.append(index)
        sites += n
    if batch:
        yield batch


class AseEnergy:
    """Any calculator of the Atomic Simulation Environment, one crystal after the other.

    Args:
        calculator: an object with ASE's calculator interface.
        name: what to call it in messages (default: the name of its class).
    """

    def __init__(self, calculator: "BaseCalculator", name: str = "") -> None:
        self.calculator = calculator
        self.name = name or type(calculator).__name__
        self._survived = _SurvivedErrors()

    def energies(self, crystals: Sequence[FilledSkeleton]) -> np.ndarray:
        """See ``EnergyModel``. What the calculator raises is a failure."""
        from ase import Atoms

        values = np.full(len(crystals), np.nan)
        for index, (skeleton, numbers) in enumerate(crystals):
            with self._survived(numbers):
                atoms = Atoms(
                    numbers=numbers,
                    cell=skeleton.lattice,
                    scaled_positions=skeleton.frac_coords,
                    pbc=True,
                    calculator=self.calculator,
                )
                values[index] = atoms.get_potential_energy() / len(atoms)
        return values


class _SurvivedErrors:
    """Lets single crystals fail: the first error is logged as a warning, the others for debugging.

    Errors made for the user, such as a missing package, are not survived.
    """

    def __init__(self) -> None:
        self._level = logging.WARNING

    @contextlib.contextmanager
    def __call__(self, numbers: np.ndarray) -> Iterator[None]:
        try:
            yield
        except CrystalGymError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a calculator may raise
            kind = type(error).__name__
            _log.log(
                self._level, "No energy of a crystal %s: %s: %s", formula(numbers), kind, error
            )
            self._level = logging.DEBUG


def resolve_energy_model(
    calculator: "str | BaseCalculator", settings: Mapping[str, Any] | None = None
) -> EnergyModel:
    """What computes energies, by name or by object.

    Args:
        calculator: ``chgnet``; ASE's name of a calculator, like ``emt`` or ``gpaw``; the place of a
            calculator's class, as ``module:Class``; or an ASE calculator.
        settings: keyword arguments for what is made by name.

    Raises:
        UnknownNameError: no such name.
        CrystalGymError: a package is missing, the settings do not fit, or it is no calculator.
    """
    if not isinstance(calculator, str):
        if isinstance(calculator, type) or not hasattr(calculator, "get_potential_energy"):
            raise CrystalGymError(
                "A calculator is a name ('chgnet', or ASE's, like 'emt'), a class given as "
                f"'module:Class', or an ASE calculator object, not {calculator!r}."
            )
        if settings:
            raise CrystalGymError("A calculator that is given as an object has its settings.")
        return AseEnergy(calculator)
    if settings is not None and not isinstance(settings, Mapping):
        raise CrystalGymError(
            f"Settings of a calculator are a mapping of names to values, not {settings!r}."
        )
    kind = ChgnetEnergy if calculator == CHGNET else _ase_class(calculator)
    try:
        made = kind(**(settings or {}))
    except CrystalGymError:
        raise
    except Exception as error:
        raise CrystalGymError(
            f"The calculator {calculator!r} cannot be made with the settings "
            f"{dict(settings or {})}: {type(error).__name__}: {error}"
        ) from error
    return made if isinstance(made, ChgnetEnergy) else AseEnergy(made, calculator)


def _ase_class(name: str) -> Any:
    """A calculator's class by ASE's name or by its place."""
    try:
        from ase.calculators.calculator import (
            BaseCalculator,
            external_calculators,
            get_calculator_class,
        )
        from ase.calculators.names import names
    except ModuleNotFoundError as error:
        raise CrystalGymError(_missing("ASE")) from error
    module, colon, attribute = name.partition(":")
    if colon and not (attribute and all(part.isidentifier() for part in module.split("."))):
        raise CrystalGymError(f"The place of a class is written 'module:Class', not {name!r}.")
    if not colon and name not in (*names, *external_calculators):
        raise UnknownNameError("calculator", name, (CHGNET, *names, *external_calculators))
    try:
        found = getattr(import_module(module), attribute) if colon else get_calculator_class(name)
    except ModuleNotFoundError as error:
        raise CrystalGymError(
            f"The calculator {name!r} needs the package {error.name!r}, which is not installed."
        ) from error
    except AttributeError as error:
        raise CrystalGymError(f"{module!r} has no class {attribute!r}.") from error
    # A place can come from a file: nothing but calculators is called.
    if colon and not (isinstance(found, type) and issubclass(found, BaseCalculator)):
        raise CrystalGymError(f"{name!r} is no class of ASE calculators.")
    return found


def _missing(package: str) -> str:
    return f"{package} is not installed. Energies need an extra: pip install 'crystal-gym[energy]'."
