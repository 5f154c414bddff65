"""Lightning Fabric, which provides the devices, processes and precision of a run."""

from typing import Any, Literal, cast

from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.utilities.exceptions import MisconfigurationException

from crystal_agents.training.config import TrainingConfig
from crystal_gym.errors import CrystalGymError


class GeometryPreservingPrecision(MixedPrecision):
    """Mixed precision that does not convert inputs.

    ``MixedPrecision`` would convert them to 16 bits, which rounds coordinates to 0.02 Å.
    """

    def convert_input(self, data: Any) -> Any:
        """Return the inputs unchanged."""
        return data


def make_fabric(config: TrainingConfig) -> Fabric:
    """Return a launched Fabric for the devices and the precision of a run.

    Raises:
        CrystalGymError: If this machine lacks the hardware, or the accelerator is unknown.
    """
    try:
        fabric = Fabric(accelerator=config.accelerator, devices=config.devices)
        if config.precision in {"bf16-mixed", "16-mixed"}:
            mixed = cast(Literal["bf16-mixed", "16-mixed"], config.precision)
            plugin = GeometryPreservingPrecision(mixed, fabric.device.type)
            fabric = Fabric(
                accelerator=config.accelerator, devices=config.devices, plugins=[plugin]
            )
        fabric.launch()
    # Fabric's exceptions for unknown or missing hardware have no common base class.
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise CrystalGymError(
            f"Cannot train with accelerator {config.accelerator!r}, devices {config.devices} and "
            f"precision {config.precision!r} on this machine: {error} Choose other hardware "
            "settings."
        ) from error
    return fabric
