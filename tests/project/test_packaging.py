"""Contents and metadata of the wheel."""

import itertools
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Import package → its folder.
PACKAGES = {
    "crystal_gym": ROOT / "crystal_gym",
    "crystal_datasets": ROOT / "datasets" / "crystal_datasets",
    "crystal_agents": ROOT / "agents" / "crystal_agents",
}
# Modules that are imported by the functions that need them; some come with extras.
HEAVY = {
    *("torch", "minari", "h5py", "pymatgen", "smact", "matplotlib", "joblib", "pandas", "scipy"),
    *("ase", "chgnet", "cloudpickle", "dask", "distributed"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_contains_every_module(wheel):
    packaged = {name for name in wheel.namelist() if name.endswith(".py")}
    assert packaged == {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*.py")
    }


def test_wheel_contains_no_other_package(wheel):
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top - set(PACKAGES) == {"crystal_gym-0.1.0.dist-info"}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(wheel, package):
    assert f"{package}/py.typed" in wheel.namelist()


def test_wheel_contains_the_embedded_collection(wheel):
    packaged = wheel.read("crystal_gym/collections/goldschmidt.npz")
    assert packaged == (ROOT / "crystal_gym/collections/goldschmidt.npz").read_bytes()


def test_wheel_contains_the_pretrained_policies(wheel):
    folder = PACKAGES["crystal_agents"] / "policies"
    files = [
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    ]
    assert any(path.name == "policy.safetensors" for path in files)
    for path in files:
        name = f"crystal_agents/policies/{path.relative_to(folder).as_posix()}"
        assert wheel.read(name) == path.read_bytes()


def test_wheel_declares_command_license_and_extras(wheel):
    info = "crystal_gym-0.1.0.dist-info"
    assert (
        "crystal-gym = crystal_agents.cli.main:main"
        in wheel.read(f"{info}/entry_points.txt").decode()
    )
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    extras = {"datasets", "agents", "energy", "offline", "discovery", "cluster", "docs"}
    extras |= {"dev", "all"}
    assert extras == set(metadata.get_all("Provides-Extra"))
    assert "Fill" in metadata["Summary"]


@pytest.mark.parametrize("container", ["agents", "datasets"])
def test_container_folders_are_not_packages(container):
    """A top-level package of this name would shadow Hugging Face datasets or openai-agents."""
    assert not (ROOT / container / "__init__.py").exists()


@pytest.mark.parametrize(
    "module", ["crystal_datasets", "crystal_agents", "crystal_agents.cli.main"]
)
def test_packages_import_no_heavy_module(module):
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not HEAVY & loaded


def test_pins_satisfy_the_ranges():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {
        canonicalize_name(name): version
        for name, version in (line.split("==") for line in lines if "==" in line)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for requirement in map(Requirement, itertools.chain(*groups)):
        name = canonicalize_name(requirement.name)
        if name != "crystal-gym":
            assert requirement.specifier.contains(pins[name]), requirement


def test_changelog_citation_and_package_agree_on_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
