"""Foreign files cannot run code, and nothing is fetched unless it is asked for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for room in ("crystal_gym", "agents", "datasets") for path in (ROOT / room).rglob("*.py")
)
# These exchange objects between processes that the package has started, or with a Dask cluster.
BETWEEN_PROCESSES = {
    "crystal_gym/utils/parallel.py",
    "crystal_gym/rewards/energy/parallel.py",
    "crystal_gym/rewards/energy/time_limit.py",
}
UNPICKLING = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
"""


def loading_calls(tree):
    """Yield the calls in a module that can run code of the file or text that they read."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        name = ast.unparse(node.func)
        module, _, function = name.rpartition(".")
        if (
            name in {"eval", "exec"}
            or (module in UNPICKLING and function in {"load", "loads", "open", "Unpickler"})
            or (name == "torch.load" and keywords.get("weights_only") != "True")
            or (name == "np.load" and keywords.get("allow_pickle") != "False")
            or (name in {"pd.read_pickle", "yaml.load", "torch.jit.load"})
            or keywords.get("shell") == "True"
        ):
            yield name


def calls_in(path):
    return list(loading_calls(ast.parse(path.read_text())))


def test_no_source_runs_code_from_a_file():
    assert len(SOURCES) > 100
    found = {str(path.relative_to(ROOT)): calls_in(path) for path in SOURCES}
    assert {name for name, calls in found.items() if calls} == BETWEEN_PROCESSES
    for name in BETWEEN_PROCESSES:
        assert set(found[name]) == {"pickle.loads"}


@pytest.mark.parametrize(
    "code",
    [
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_calls_that_can_run_code_are_found(code):
    assert list(loading_calls(ast.parse(code)))
    assert not list(loading_calls(ast.parse("torch.load(path, weights_only=True); policy.eval()")))


def test_addresses_of_downloads_are_encrypted():
    addresses = [
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "://" in node.value
    ]
    assert any(address.startswith("https://") for address in addresses)
    assert [address for address in addresses if "http://" in address] == []


@pytest.mark.parametrize(
    "code",
    [
        "import crystal_gym, crystal_datasets, crystal_agents",
        "import gymnasium as gym; gym.make('crystal_gym:CrystalSkeleton-v0').reset(seed=0)",
        "import crystal_gym, gymnasium as gym; gym.make_vec('CrystalSkeleton-v0', 8).reset(seed=0)",
        "from crystal_agents import load_policy; load_policy('goldschmidt/egnn')",
    ],
)
def test_nothing_is_fetched_without_a_request(code):
    subprocess.run([sys.executable, "-c", NO_NETWORK + code], check=True)
