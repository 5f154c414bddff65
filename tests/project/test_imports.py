"""Imports are light, and every public name is available."""

import subprocess
import sys

import pytest

import crystal_gym

HEAVY = [
    "pymatgen", "smact", "torch", "minari", "h5py", "matplotlib", "joblib", "rich", "tyro", "pooch",
    "scipy", "spglib", "pandas", "lightning_fabric", "stable_baselines3", "ase", "chgnet",
    "dask", "distributed",
]  # fmt: skip


def heavy_modules_after(code):
    """Return the modules of HEAVY that a new interpreter has imported after running ``code``."""
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout.split()


@pytest.mark.parametrize(
    "code",
    [
        "import crystal_gym",
        "import crystal_gym; crystal_gym.COLLECTIONS, crystal_gym.Skeleton, crystal_gym.Vocabulary",
        "import crystal_gym.envs.vector_env, crystal_gym.envs.wrappers, crystal_gym.envs.rendering",
        "import gymnasium as gym; gym.make('crystal_gym:CrystalSkeleton-v0').reset(seed=0)",
        "import crystal_gym, gymnasium as gym; gym.make_vec('CrystalSkeleton-v0', 8).reset(seed=0)",
    ],
)
def test_environments_import_no_heavy_module(code):
    assert heavy_modules_after(code) == []


def test_heavy_modules_are_detected():
    assert heavy_modules_after("import crystal_gym.crystals.validity, smact") != []


@pytest.mark.parametrize("name", crystal_gym.__all__)
def test_public_names_are_available(name):
    assert getattr(crystal_gym, name)
    assert name in dir(crystal_gym)


def test_public_names_are_complete():
    assert set(crystal_gym._HOMES) | {"__version__"} == set(crystal_gym.__all__)
    assert crystal_gym.Skeleton.__module__ == "crystal_gym.crystals.skeleton"


def test_version_equals_that_of_the_distribution():
    from importlib.metadata import version

    assert crystal_gym.__version__ == version("crystal-gym")


def test_unknown_names_raise():
    with pytest.raises(AttributeError, match="no attribute 'Skeletons'"):
        crystal_gym.Skeletons  # noqa: B018 - the access is under test
