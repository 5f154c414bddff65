"""Shared parts of the benchmark scripts: arguments, timing in turns, ratios and output.

Every script compares several ways of doing the same work. All ways are measured in turns, one after
the other, so that a busy machine slows all of them equally. Results are the median rate of each way
and the median, over the turns, of its ratio to the reference of the script.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tyro

Rates = dict[str, list[float]]
ArgsT = TypeVar("ArgsT", bound="Args")


@dataclass(kw_only=True)
class Args:
    """Arguments that all scripts share.

    Attributes:
        json: Also write the result to this file.
    """

    json: Path | None = None
    """Also write the result to this file."""


def parse(args_type: type[ArgsT]) -> ArgsT:
    """Parse the arguments of the command line.

    Args:
        args_type: Dataclass of the arguments; its docstring is the help text.
    """
    return tyro.cli(args_type)


def run_script(args_type: type[ArgsT], measure: Callable[[ArgsT], dict[str, Any]]) -> None:
    """Parse the arguments, measure, and print the result as a table and as JSON.

    Args:
        args_type: Dataclass of the arguments; its docstring is the help text.
        measure: Returns the result for the arguments.
    """
    args = parse(args_type)
    result = measure(args)
    report({"arguments": arguments(args), **result, "machine": machine()}, args.json)


def arguments(args: Args) -> dict[str, Any]:
    """Return the arguments as JSON values, without the output file."""
    values = {key: value for key, value in dataclasses.asdict(args).items() if key != "json"}
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def machine() -> dict[str, Any]:
    """Return the processor with its number of threads, the software versions and the date."""
    # Imported after the measurement: PyTorch adds to the memory of the process.
    import torch

    from crystal_agents.experiments.provenance import provenance

    return provenance(torch.device("cpu"))


def report(result: Mapping[str, Any], path: Path | None = None) -> None:
    """Print a result as a table on standard error and as JSON on standard output.

    Args:
        result: The result, JSON values.
        path: Also write the JSON to this file.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for section, value in result.items():
        rows = value.items() if isinstance(value, Mapping) else [("", value)]
        for name, cell in rows:
            table.add_row(
                section, str(name), f"{cell:,.4g}" if isinstance(cell, float) else str(cell)
            )
        table.add_section()
    Console(stderr=True).print(table)
    text = json.dumps(result, indent=2)
    print(text)
    if path is not None:
        path.write_text(text + "\n")


def stored(file: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result in a JSON file; compute and write it if there is none."""
    from crystal_gym.utils.files import atomic_write

    if not file.is_file():
        result = compute()
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n")
    return json.loads(file.read_text())


def seconds(work: Callable[[], object]) -> float:
    """Return the duration of one call in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(ways: Mapping[str, Callable[[], float]], turns: int) -> Rates:
    """Measure all ways one after the other, several times.

    Args:
        ways: Functions that measure a rate or a duration, by the name of the way.
        turns: Number of measurements of each way.

    Returns:
        The rates of each way, one per turn.
    """
    rates: Rates = {name: [] for name in ways}
    for _ in range(turns):
        for name, measure in ways.items():
            rates[name].append(measure())
    return rates


def median_ratio(rates: Rates, way: str, reference: str) -> float:
    """Return the median over the turns of the ratio of two ways' rates."""
    return statistics.median(a / b for a, b in zip(rates[way], rates[reference], strict=True))


def summarize(rates: Rates, unit: str, reference: str) -> dict[str, Any]:
    """Return the median rate of each way and its median ratio to the reference.

    Args:
        rates: The rates of each way, one per turn.
        unit: Unit of the rates.
        reference: Name of the way to which the others are compared.
    """
    return {
        unit: {name: statistics.median(values) for name, values in rates.items()},
        f"ratio to {reference}": {
            name: median_ratio(rates, name, reference) for name in rates if name != reference
        },
    }
