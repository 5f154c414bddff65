"""FIXDOC."""

from typing import TYPE_CHECKING, Any

from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from crystal_agents.training.config import TrainingConfig
from crystal_gym.errors import CrystalGymError

if TYPE_CHECKING:
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger


class GeometryPreservingPrecision(MixedPrecision):
    """Fabric's, but geometry goes in as it is: 16 bits would round coordinates to 0.02 Å."""

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(args: TrainingConfig) -> Fabric:
    """Fabric for the run's hardware, launched.

    Raises:
        CrystalGymError: there is no such hardware here.
    """
    try:
        fabric = Fabric(accelerator=args.accelerator, devices=args.devices)
        if args.precision != "32-true":
            plugin = GeometryPreservingPrecision(args.precision, fabric.device.type)
            fabric = Fabric(accelerator=args.accelerator, devices=args.devices, plugins=[plugin])
        fabric.launch()
    # Fabric's own exceptions for hardware that is not there have no common base.
    except Exception as error:
        raise CrystalGymError(
            f"Cannot train with accelerator {args.accelerator!r}, {args.devices} devices and "
            f"precision {args.precision!r} here: {error}"
        ) from error
    return fabric


def make_tensorboard_logger(args: TrainingConfig) -> "TensorBoardLogger":
    """The logger of TensorBoard events in the run's folder."""
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    return TensorBoardLogger(args.run, name="tensorboard", version="")
