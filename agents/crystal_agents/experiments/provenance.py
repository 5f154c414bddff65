"""Provenance of a result: hardware, software versions and date."""

import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from crystal_gym.crystals.validity import rule_description


def provenance(device: torch.device) -> dict[str, Any]:
    """Return the fields ``hardware``, ``versions`` and ``date`` of a run that ends now.

    Args:
        device: The device on which the run took place.
    """
    return {
        "hardware": hardware(device),
        "versions": versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Return the versions of crystal-gym, PyTorch, SMACT and Python."""
    return {
        "crystal-gym": version("crystal-gym"),
        "torch": torch.__version__,
        "smact": version("smact"),
        "python": platform.python_version(),
    }


def validity_note(rule: str, recorded: Iterable[Mapping[str, str]]) -> str:
    """Return the note that defines the validity in a table of results.

    Args:
        rule: A name in ``crystal_gym.crystals.validity.RULES``.
        recorded: Versions of the software of each run.
    """
    smact = {versions.get("smact", "") for versions in recorded}
    known = " and ".join(sorted(smact - {""}))
    note = f"Validity: rule {rule_description(rule, known) if known else rule}."
    if "" in smact:
        note += " Runs without a recorded version of SMACT may have used another definition of it."
    return note


def hardware(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor with the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
