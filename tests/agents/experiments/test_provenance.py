"""Provenance of a result."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version

import pytest
import torch

from crystal_agents.experiments import provenance as module
from crystal_agents.experiments.provenance import hardware, provenance, validity_note, versions


def test_provenance_has_hardware_versions_and_the_time_in_utc():
    start = datetime.now(UTC).replace(microsecond=0)
    found = provenance(torch.device("cpu"))
    assert set(found) == {"hardware", "versions", "date"}
    assert found["hardware"] == hardware(torch.device("cpu"))
    date = datetime.fromisoformat(found["date"])
    assert start <= date <= datetime.now(UTC)
    assert date.utcoffset().total_seconds() == 0


def test_versions_are_those_of_the_installed_packages():
    assert versions() == {
        "crystal-gym": version("crystal-gym"),
        "torch": torch.__version__,
        "smact": version("smact"),
        "python": platform.python_version(),
    }


def test_validity_note_names_the_rule_and_every_recorded_version_of_smact():
    recorded = [{"smact": "4.0.3"}, {"smact": "4.0.2"}, {"smact": "4.0.3"}]
    note = validity_note("strict", recorded)
    assert "rule strict (SMACT 4.0.2 and 4.0.3, oxidation" in note
    assert "another definition" not in note
    note = validity_note("strict", [*recorded, {"torch": "2"}])
    assert "(SMACT 4.0.2 and 4.0.3, " in note
    assert "another definition" in note
    note = validity_note("smact14", [{"torch": "2"}])
    assert note.startswith("Validity: rule smact14. Runs without a recorded version")


@pytest.mark.parametrize(("threads", "text"), [(1, "1 thread"), (8, "8 threads")])
def test_hardware_of_a_cpu_is_the_processor_with_its_threads(threads, text, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    name, _, suffix = hardware(torch.device("cpu")).rpartition(", ")
    assert name
    assert suffix == text


def test_hardware_of_a_gpu_is_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert hardware(torch.device("cuda", 1)) == "GPU 1"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("processor\t: 0\nmodel name\t: A: fast one\nmodel name\t: B\n", "A: fast one"),
        ("processor\t: 0\n", "x86_64"),
        (None, "x86_64"),
    ],
)
def test_processor_name_has_a_fallback(content, expected, tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    if content is not None:
        info.write_text(content)
    monkeypatch.setattr(module, "Path", lambda _: info)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert hardware(torch.device("cpu")).startswith(f"{expected}, ")
