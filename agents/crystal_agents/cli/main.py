"""The command line ``crystal-gym``: one file per command, heavy imports inside."""

import _thread
import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence

from crystal_agents.cli.benchmark import Benchmark
from crystal_agents.cli.build_dataset import BuildDataset
from crystal_agents.cli.command import Command
from crystal_agents.cli.demo import Demo
from crystal_agents.cli.evaluate import Evaluate
from crystal_agents.cli.finetune import Finetune
from crystal_agents.cli.list_available import List
from crystal_agents.cli.prepare import Prepare
from crystal_agents.cli.reproduce import Reproduce
from crystal_agents.cli.train import Train
from crystal_agents.cli.train_offline import TrainOffline
from crystal_gym.errors import CrystalGymError, DownloadError, StorageError

# Every command by its name, in the order of --help.
COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "list": List,
    "prepare": Prepare,
    "build-dataset": BuildDataset,
    "train": Train,
    "train-offline": TrainOffline,
    "finetune": Finetune,
    "evaluate": Evaluate,
    "reproduce": Reproduce,
    "benchmark": Benchmark,
}

DESCRIPTION = "Fill crystal skeletons with elements: crystals, expert data, policies."

# Exit codes; an interrupted command ends with the shell's convention, 128 + SIGINT.
OK, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# Top-level module that may be absent → the extra that brings it.
_EXTRAS = {
    "minari": "datasets",
    "h5py": "datasets",
    "torch": "agents",
    "torch_geometric": "agents",
    "lightning_fabric": "agents",
    "safetensors": "agents",
    "stable_baselines3": "agents",
    "sb3_contrib": "agents",
    "tensorboard": "agents",
    "tensordict": "offline",
    "torchrl": "offline",
    "chgnet": "energy",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments without the program's name (default: those of the process).

    Returns:
        The exit code: 0; 2 for bad usage or input; 1 for a failure; 130 after Ctrl-C.
    """
    import tyro

    try:
        command = tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="crystal-gym",
            description=DESCRIPTION,
            args=argv,
            config=(
                tyro.conf.DisallowNone,
                tyro.conf.FlagCreatePairsOff,
                tyro.conf.PositionalMetavarFromFieldName,
            ),
        )
    except SystemExit as end:  # tyro has printed its help or what it did not understand
        return end.code if isinstance(end.code, int) else BAD_INPUT
    try:
        with _interrupts_are_heard():
            command.run()
        sys.stdout.flush()
    except (StorageError, DownloadError) as error:
        return _tell(str(error), FAILURE)
    except CrystalGymError as error:
        return _tell(str(error), BAD_INPUT)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _tell(
            f"This needs {error.name}, which is not installed: pip install 'crystal-gym[{extra}]'.",
            FAILURE,
        )
    except BrokenPipeError:
        # The reader (like `head`) has left; keep the interpreter from complaining at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except OSError as error:
        return _tell(f"{error.filename or 'The system'}: {error.strerror or error}.", FAILURE)
    except KeyboardInterrupt:
        return _tell(f"Stopped. {command.after_stop}", INTERRUPTED)
    return OK


@contextlib.contextmanager
def _interrupts_are_heard() -> Iterator[None]:
    """Raise Ctrl-C anew where Python drops it: in destructors and callbacks of weak references.

    Writing HDF5 files spends much of its time in such callbacks.
    """
    usual = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # At once it would fall into this very callback.
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            usual(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _tell(message: str, code: int) -> int:
    print(f"crystal-gym: {message}", file=sys.stderr)
    return code
