"""Run columns of Table 1 from a bundle, on a machine with PyTorch and without this package.

In the folder that ``crystal_agents.experiments.reproduction.bundle`` wrote::

    python -m crystal_agents.experiments.reproduction.bundle_run --time-limit 3600

Only torch, numpy, safetensors and the standard library are imported. A column that does not finish
within the time limit stops after an epoch and resumes when the command is repeated.
"""

import argparse
import json
import platform
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crystal_agents.networks.egnn_paper import EGNNPaper
from crystal_agents.networks.gcn import GCN
from crystal_agents.training.fixed_shape import FixedShapeStore
from crystal_agents.training.fixed_shape_loop import FixedShapeConfig, FixedShapeTraining
from crystal_agents.training.recipes import get_recipe

_NETWORKS = {"egnn-paper": EGNNPaper, "gcn": GCN}
_CHECKPOINT_SECONDS = 60.0
_LINES = 20
_PRINTED = ("loss", "train_accuracy", "val_accuracy")


class _Model(nn.Module):
    """The network of a policy, with the same names of weights."""

    def __init__(self, column: dict[str, Any], n_elements: int, max_sites: int) -> None:
        super().__init__()
        self.encoder = _NETWORKS[column["network"]](n_elements, **column["settings"])
        self.readout = self.encoder.make_readout(n_elements, max_sites)

    def forward(self, batch: Any, elements: Tensor, focus: Tensor) -> Tensor:
        return self.readout(batch, self.encoder(batch, elements), focus)


class Bundle:
    """Prepared transitions and initial weights in a folder.

    Args:
        folder: The folder.
        device: Device of the tensors.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self.record = json.loads((folder / "bundle.json").read_text("utf-8"))

    def store(self, file: str, batch_size: int, drawn: str | None = None) -> FixedShapeStore:
        """Return the transitions in a file, or those in a mask of the file."""
        arrays = load_file(self.folder / f"{file}.safetensors")
        if drawn is not None:
            kept = arrays[drawn]
            for name in ("skeleton", "elements", "focus", "action"):
                arrays[name] = arrays[name][kept]
        return FixedShapeStore(arrays, batch_size, self.device)

    def model(self, column: dict[str, Any], seed: int) -> nn.Module:
        """Return the network of a column with the initial weights of a seed."""
        model = _Model(column, len(self.record["symbols"]), self.record["max_sites"])
        weights = self.folder / f"{column['weights']}-seed-{seed}.safetensors"
        model.load_state_dict(load_file(weights))
        return model.to(self.device)


def make_training(
    bundle: Bundle, column: str, seed: int, options: argparse.Namespace
) -> FixedShapeTraining:
    """Return the run of a column with its initial weights."""
    settings = bundle.record["columns"][column]
    recipe = get_recipe(settings["network"])
    epochs = options.epochs or recipe.epochs
    config = FixedShapeConfig(
        recipe=type(recipe)(**{**vars(recipe), "epochs": epochs}),
        seed=seed,
        validate_every=max(1, epochs // 50),
        precision=options.precision,
        compiled=not options.eager,
    )
    drawn = f"trajectories-{settings['trajectories']}-seed-{seed}"
    data = bundle.store(f"train{settings['data']}", recipe.skeletons, drawn)
    validation = bundle.store(f"val{settings['data']}", recipe.skeletons)
    return FixedShapeTraining(bundle.model(settings, seed), data, validation, config)


def run_column(bundle: Bundle, column: str, seed: int, options: argparse.Namespace) -> bool:
    """Run a column, or resume it; return whether it is finished."""
    name = f"{column}-seed-{seed}"
    path = options.out / name
    done, state = path.with_name(f"{name}.json"), path.with_name(f"{name}.optimizer.safetensors")
    if done.is_file():
        return True
    begin = time.monotonic()
    training = make_training(bundle, column, seed, options)
    if state.is_file():
        training.load(path)
    print(f"{name}: ready after {time.monotonic() - begin:.0f} s, epoch {training.epoch}")
    saved = time.monotonic()

    def after_epoch(run: FixedShapeTraining) -> None:
        nonlocal saved
        last = run.config.recipe.epochs
        if run.epoch % max(1, last // _LINES) == 0:
            row = run.history[-1]
            metrics = ", ".join(f"{key} {row[key]:.4f}" for key in _PRINTED if key in row)
            print(f"{name}: epoch {run.epoch}, {metrics}, {run.seconds:.0f} s", flush=True)
        if time.monotonic() - saved > _CHECKPOINT_SECONDS:
            run.save(path)
            saved = time.monotonic()

    training.run(options.deadline, after_epoch)
    training.save(path)
    if training.finished:
        record = {
            "column": column,
            "seed": seed,
            "precision": options.precision,
            "compiled": not options.eager,
            "epochs": training.epoch,
            "transitions": len(training.data),
            "seconds": round(training.seconds, 1),
            "hardware": _hardware(bundle.device),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "collection_sha256": bundle.record["collection_sha256"],
            "history": training.history,
        }
        done.with_suffix(".part").write_text(json.dumps(record, indent=1) + "\n")
        done.with_suffix(".part").replace(done)
        state.unlink()
    return training.finished


def measure(bundle: Bundle, options: argparse.Namespace) -> None:
    """Print the time of an epoch of each column; nothing is saved."""
    for column in options.columns:
        begin = time.monotonic()
        training = make_training(bundle, column, options.seeds[0], options)
        ready = time.monotonic() - begin
        seconds: list[float] = []
        training.run(
            time.monotonic() + options.measure_seconds,
            lambda run, seconds=seconds: seconds.append(run.seconds),
        )
        epoch = (seconds[-1] - seconds[0]) / max(1, len(seconds) - 1)
        print(
            f"{column}, {options.precision}{', eager' if options.eager else ''}: ready after "
            f"{ready:.0f} s, {1000 * epoch:.1f} ms for each of {len(seconds)} epochs, "
            f"loss of the first {training.history[0]['loss']:.6f}",
            flush=True,
        )


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def main(arguments: list[str] | None = None) -> None:
    """Run the columns that are not finished, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path(), help="folder of the bundle")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--columns", nargs="+", help="columns (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds (default: all)")
    parser.add_argument("--epochs", type=int, help="epochs (default: the paper's 1000)")
    parser.add_argument("--precision", choices=("32-true", "tf32", "bf16-mixed"), default="32-true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eager", action="store_true", help="do not compile the loss")
    parser.add_argument("--time-limit", type=float, default=float("inf"), help="seconds")
    parser.add_argument("--measure-seconds", type=float, help="only measure, seconds per column")
    options = parser.parse_args(arguments)
    options.deadline = time.monotonic() + options.time_limit
    bundle = Bundle(options.bundle, torch.device(options.device))
    options.columns = options.columns or list(bundle.record["columns"])
    options.seeds = options.seeds or bundle.record["seeds"]
    if options.measure_seconds:
        measure(bundle, options)
        return
    for seed in options.seeds:
        for column in options.columns:
            if not run_column(bundle, column, seed, options):
                print("The time limit is reached. Repeat the command to resume.")
                return


if __name__ == "__main__":
    main()
