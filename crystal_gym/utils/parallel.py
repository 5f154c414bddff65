"""Functions of many inputs in parallel: in processes of this machine, or on a Dask cluster.

``map_in_order`` uses the current Dask client, if there is one: that of ``use_cluster``, of ``with
dask.distributed.Client(...)`` or of ``with client.as_current()``. The results are the same bytes in
either case.
"""

import contextlib
import functools
import importlib.metadata
import itertools
import json
import pickle
import socket
import sys
import threading
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from crystal_gym.errors import ClusterError, ClusterWarning

if TYPE_CHECKING:
    from dask.distributed import Client, Future

Result = TypeVar("Result")

# Packages whose versions must be equal on all workers, because prepared arrays depend on them.
_PACKAGES = ("crystal-gym", "gemmi", "numpy", "pymatgen", "scipy", "smact", "spglib")
# Seconds until an address without a scheduler is reported.
_CONNECTION_SECONDS = 10
# Smallest number of inputs that wait on a cluster: an adaptive cluster grows with this number.
_WAITING = 64
# Readers of crystals collect warnings, which threads of one process would mix.
_LOCK = threading.Lock()


@contextlib.contextmanager
def use_cluster(address: str | None) -> Iterator[None]:
    """Compute on a Dask cluster inside the block.

    Args:
        address: Address of a running scheduler, such as ``tcp://10.0.0.1:8786``, or the path of a
            scheduler file, which ends with ``.json``. ``None`` changes nothing.

    Warns:
        ClusterWarning: If the cluster has no workers yet.

    Raises:
        ClusterError: If ``distributed`` is not installed, or no scheduler answers.
    """
    if address is None:
        yield
        return
    with _connect(address) as client, client.as_current():
        if not _n_threads(client):
            warnings.warn(
                f"Expected workers at {address}, got none yet. Start them with dask worker; the "
                "computation waits for them.",
                ClusterWarning,
                stacklevel=3,
            )
        yield


def map_in_order(function: Callable[..., Result], inputs: Iterable[tuple]) -> Iterator[Result]:
    """Yield the results of a function, in the order of the inputs.

    Inputs are consumed and sent while results are used. If a worker of a cluster stops, its inputs
    are computed again by the others.

    Args:
        function: A function without side effects. It and its arguments can be pickled.
        inputs: Positional arguments of each call.

    Raises:
        ClusterError: If the connection to the scheduler is lost, the workers have other versions
            of the packages, or several of them stop while they compute one input.
        Exception: If the function raises one.
    """
    client = _current_client()
    if client is not None:
        yield from _map_on_cluster(client, function, inputs)
        return
    import joblib

    with joblib.Parallel(n_jobs=-1, return_as="generator") as parallel:
        yield from cast(
            Iterator[Result], parallel(joblib.delayed(function)(*values) for values in inputs)
        )


def on_cluster() -> bool:
    """Return whether ``map_in_order`` computes on a Dask cluster."""
    return _current_client() is not None


def n_workers() -> int:
    """Return the number of inputs that ``map_in_order`` computes at the same time, 1 or more."""
    client = _current_client()
    if client is not None:
        return max(1, _n_threads(client))
    import joblib

    return joblib.cpu_count()


@contextlib.contextmanager
def _connect(address: str) -> "Iterator[Client]":
    try:
        from dask.distributed import Client
    except ModuleNotFoundError as error:
        raise ClusterError(
            f"Expected the package {error.name}, which is not installed. Run pip install "
            "'crystal-gym[cluster]'."
        ) from error
    place = _read_scheduler_file(Path(address)) if address.endswith(".json") else address
    try:
        _knock(place)
        client = Client(place, timeout=_CONNECTION_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        raise ClusterError(
            f"Expected a Dask scheduler at {place}, got no answer ({error}). Start it with dask "
            "scheduler, or correct the address, such as tcp://10.0.0.1:8786."
        ) from error
    with client:
        yield client


def _read_scheduler_file(path: Path) -> str:
    """Return the address in a scheduler file."""
    try:
        return str(json.loads(path.read_text())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClusterError(
            f"Expected the scheduler file {path}, got no such file or no address in it "
            f"({error!r}). Start the scheduler with dask scheduler --scheduler-file {path}."
        ) from error


def _knock(address: str) -> None:
    """Connect to an address and close the connection.

    A client that finds no scheduler reports further errors when the program ends.

    Raises:
        OSError: If nothing listens there.
        ValueError: If it is not an address.
    """
    from distributed.comm.addressing import get_address_host_port

    socket.create_connection(get_address_host_port(address), _CONNECTION_SECONDS).close()


def _current_client() -> "Client | None":
    """Return Dask's current client; ``None`` if there is none, or if it is asynchronous."""
    if "distributed" not in sys.modules:  # without the package there is no client
        return None
    from dask.distributed import default_client

    try:
        client = default_client()
    except ValueError:
        return None
    return None if client.asynchronous else client


def _map_on_cluster(
    client: "Client", function: Callable[..., Result], inputs: Iterable[tuple]
) -> Iterator[Result]:
    """Yield the results of a function in order, with a limited number of waiting inputs.

    joblib's Dask backend is not used, because it keeps arguments in the memory of single workers:
    they are lost when such a worker stops. Here the scheduler has the arguments.
    """
    import cloudpickle

    task, versions, name = _make_task(), _versions(), getattr(function, "__name__", "function")
    remaining = iter(inputs)
    waiting: deque[Future] = deque()
    with _cluster_errors():
        try:
            while True:
                n_free = max(_WAITING, 4 * _n_threads(client)) - len(waiting)
                for values in itertools.islice(remaining, max(0, n_free)):
                    content = cloudpickle.dumps((function, values))
                    # Dask computes equal keys once.
                    key = f"{name}-{uuid.uuid4().hex}"
                    waiting.append(client.submit(task, content, versions, key=key))
                if not waiting:
                    return
                found, result = waiting.popleft().result()
                _require_versions(versions, found)
                yield result
        finally:
            if waiting and client.status == "running":
                client.cancel(list(waiting))


def _n_threads(client: "Client") -> int:
    """Return the number of threads of all workers, 0 if none has started yet."""
    try:
        by_worker: Any = client.nthreads()  # a dictionary, unless the client is asynchronous
        return sum(by_worker.values())
    except OSError as error:
        raise _lost_connection(error) from error


@contextlib.contextmanager
def _cluster_errors() -> Iterator[None]:
    """Convert the errors of a cluster to a ``ClusterError``."""
    from asyncio import CancelledError as AsyncCancelledError
    from concurrent.futures import CancelledError

    from dask.distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise ClusterError(
            f"Expected workers that finish each part, got {error.allowed_failures + 1} that "
            f"stopped during the same one ({error.task}). Start workers with more memory; the logs "
            "of the workers give the cause. Parts that are stored are not computed again."
        ) from error
    except (CancelledError, AsyncCancelledError, CommClosedError) as error:
        raise _lost_connection(error) from error


def _lost_connection(error: BaseException) -> ClusterError:
    reason = getattr(error, "reason", error)
    return ClusterError(
        f"Expected the Dask scheduler to run until the end, got a lost connection ({reason}). "
        "Start it and the command again. Parts that are stored are not computed again."
    )


@functools.lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    """Return the versions of the packages on which results depend, by name."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _require_versions(expected: dict[str, str], found: dict[str, str]) -> None:
    """Raise an error if a worker has other versions of the packages."""
    other = [name for name in expected if found[name] != expected[name]]
    if other:
        raise ClusterError(
            f"Expected {', '.join(f'{name} {expected[name]}' for name in other)} on the workers, "
            f"got {', '.join(f'{name} {found[name]}' for name in other)} on {found['host']}. "
            "Install the same versions there, and start the workers again."
        )


def _make_task() -> Callable[[bytes, dict[str, str]], tuple[dict[str, str], Any]]:
    """Return the function that a worker calls.

    A function inside a function is pickled with its code: schedulers need no crystal-gym, and a
    worker without it, or with another version, can report this.
    """

    def compute(content: bytes, expected: dict[str, str]) -> tuple[dict[str, str], Any]:
        import platform
        from importlib import metadata

        found = {"host": platform.node()}
        for name in expected:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = "(not installed)"
        if any(found[name] != version for name, version in expected.items()):
            return found, None
        from crystal_gym.utils.parallel import call_pickled

        return found, call_pickled(content)

    return compute


def call_pickled(content: bytes) -> Any:
    """Call a pickled function with its pickled arguments, one call at a time in each process.

    Args:
        content: Function and tuple of arguments, as ``map_in_order`` sends them.
    """
    with _LOCK:
        # The scheduler, which the user has started, sends only what a client has submitted.
        function, values = pickle.loads(content)  # noqa: S301
        return function(*values)
