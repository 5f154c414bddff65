"""The layout of the repository: rooms, module sizes and mirrored tests."""

import pytest
from repository import ROOT, repository_files

MOST_LINES = 400
PACKAGES = {
    "gym": ROOT / "crystal_gym",
    "datasets": ROOT / "datasets" / "crystal_datasets",
    "agents": ROOT / "agents" / "crystal_agents",
}


def test_modules_have_at_most_400_lines():
    files = repository_files("*.py")
    assert len(files) > 100
    long = {
        str(path.relative_to(ROOT)): lines
        for path in files
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long


@pytest.mark.parametrize(
    ("package", "loose"),
    [("gym", {"__init__.py", "errors.py"}), ("agents", {"__init__.py", "__main__.py"})],
)
def test_packages_have_no_loose_modules(package, loose):
    assert {path.name for path in PACKAGES[package].glob("*.py")} == loose


@pytest.mark.parametrize("package", PACKAGES)
def test_module_names_in_a_room_differ_by_more_than_an_s(package):
    for room in [PACKAGES[package], *(p for p in PACKAGES[package].rglob("*") if p.is_dir())]:
        names = {path.stem for path in room.glob("*.py")} | {
            path.name for path in room.iterdir() if path.is_dir()
        }
        assert not {name for name in names if f"{name}s" in names}, room


@pytest.mark.parametrize("package", ["gym", "agents"])
def test_tests_mirror_the_rooms(package):
    rooms = {path.name for path in PACKAGES[package].iterdir() if (path / "__init__.py").is_file()}
    assert {path.name for path in (ROOT / "tests" / package).iterdir() if path.is_dir()} >= rooms
