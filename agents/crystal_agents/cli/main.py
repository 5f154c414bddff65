"""Entry point of the command line ``crystal-gym``: parses, runs and reports errors."""

import _thread
import contextlib
import importlib.metadata
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from crystal_agents.cli.benchmark import Benchmark
from crystal_agents.cli.build_dataset import BuildDataset
from crystal_agents.cli.calibrate import Calibrate
from crystal_agents.cli.cluster_command import ClusterCommand
from crystal_agents.cli.command import Command
from crystal_agents.cli.demo import Demo
from crystal_agents.cli.evaluate import Evaluate
from crystal_agents.cli.evaluate_targets import EvaluateTargets
from crystal_agents.cli.fill import Fill
from crystal_agents.cli.finetune import Finetune
from crystal_agents.cli.leaderboard import Leaderboard
from crystal_agents.cli.list_available import List
from crystal_agents.cli.prepare import Prepare
from crystal_agents.cli.reproduce import Reproduce
from crystal_agents.cli.train import Train
from crystal_agents.cli.train_offline import TrainOffline
from crystal_gym.errors import (
    ClusterError,
    CrystalGymError,
    CrystalGymWarning,
    DownloadError,
    StorageError,
)

# Commands by name, in the order of --help.
COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "list": List,
    "prepare": Prepare,
    "build-dataset": BuildDataset,
    "train": Train,
    "train-offline": TrainOffline,
    "calibrate": Calibrate,
    "finetune": Finetune,
    "fill": Fill,
    "evaluate": Evaluate,
    "evaluate-targets": EvaluateTargets,
    "reproduce": Reproduce,
    "benchmark": Benchmark,
    "leaderboard": Leaderboard,
}

DESCRIPTION = "Assign elements to crystal skeletons: collections, expert data, policies."

# Exit codes; an interrupted command returns 128 + SIGINT, as is the convention of shells.
OK, FAILURE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# Optional top-level module → the extra that installs it.
_EXTRAS = {
    "minari": "datasets",
    "h5py": "datasets",
    "torch": "agents",
    "torch_geometric": "agents",
    "lightning_fabric": "agents",
    "pydantic": "agents",
    "safetensors": "agents",
    "stable_baselines3": "agents",
    "sb3_contrib": "agents",
    "tensorboard": "agents",
    "tensordict": "offline",
    "torchrl": "offline",
    "chgnet": "energy",
    "pymoo": "discovery",
    "sklearn": "discovery",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name (default: those of the process).

    Returns:
        The exit code: 0 for success, 1 for a failure of the system, 2 for invalid usage or input,
        130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"crystal-gym {importlib.metadata.version('crystal-gym')}")
        return OK
    import tyro

    _replace_unencodable()
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="crystal-gym",
            description=DESCRIPTION,
            args=arguments,
            config=(
                tyro.conf.DisallowNone,
                tyro.conf.FlagCreatePairsOff,
                tyro.conf.PositionalMetavarFromFieldName,
            ),
        )
    except SystemExit as end:  # tyro has printed the help or the usage error
        if end.code is None:  # it has written a completion script
            return OK
        return end.code if isinstance(end.code, int) else BAD_INPUT
    try:
        with _keep_interrupts(), _plain_warnings(), _cluster_of(command):
            command.run()
        sys.stdout.flush()
    except (StorageError, DownloadError, ClusterError) as error:
        return _report(str(error), FAILURE)
    except CrystalGymError as error:
        return _report(str(error), BAD_INPUT)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _report(
            f"Expected the package {error.name}, which is not installed. Run pip install "
            f"'crystal-gym[{extra}]'.",
            FAILURE,
        )
    except BrokenPipeError:
        # The reader of the pipe, such as `head`, has closed it: suppress the error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except OSError as error:
        return _report(f"{error.filename or 'The system'}: {error.strerror or error}.", FAILURE)
    except KeyboardInterrupt:
        return _report(f"Stopped. {command.after_stop}", INTERRUPTED)
    return OK


@contextlib.contextmanager
def _cluster_of(command: Command) -> Iterator[None]:
    """Let a command compute on its cluster, if it has one."""
    if not isinstance(command, ClusterCommand) or command.cluster is None:
        yield
        return
    from crystal_gym.utils.parallel import use_cluster

    with use_cluster(command.cluster):
        # The errors of this package report a lost scheduler; Dask's log adds only tracebacks.
        for handler in logging.getLogger("distributed").handlers:
            handler.setLevel(logging.CRITICAL)
        yield


def _replace_unencodable() -> None:
    """Print a question mark for each character that the encoding of standard output lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextlib.contextmanager
def _keep_interrupts() -> Iterator[None]:
    """Repeat a Ctrl-C that Python drops in a destructor or a callback of a weak reference.

    Writing HDF5 files spends much of its time in such callbacks.
    """
    default_hook = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            # An immediate interrupt would be dropped by the same callback.
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            default_hook(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = default_hook


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print the warnings of this package like its errors, without a line of source code."""
    default = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, CrystalGymWarning):
            print(f"crystal-gym: warning: {message}", file=sys.stderr)
        else:
            default(message, category, *place)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = default


def _report(message: str, code: int) -> int:
    print(f"crystal-gym: {message}", file=sys.stderr)
    return code
