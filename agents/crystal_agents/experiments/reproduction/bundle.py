"""Bundles: what a machine with PyTorch alone needs to run columns of Table 1.

::

    python -m crystal_agents.experiments.reproduction.bundle FOLDER --seeds 0

writes the prepared transitions, the initial weights and the modules of this package that
``bundle_run`` imports into one folder.
"""

import argparse
import inspect
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file

from crystal_agents.experiments.reproduction.runner import RunContext
from crystal_agents.experiments.reproduction.table_1 import TABLE_1
from crystal_agents.training.learner import new_policy
from crystal_agents.training.recipes import get_recipe
from crystal_datasets.transitions import draw_trajectories
from crystal_gym import errors
from crystal_gym.errors import CrystalGymError, UnknownNameError

if TYPE_CHECKING:
    from crystal_datasets.transitions import Transitions

# Modules that `bundle_run` imports; the packages of the bundle have empty `__init__.py` files.
_MODULES = (
    "crystal_agents.experiments.reproduction.bundle_run",
    "crystal_agents.networks.egnn_paper",
    "crystal_agents.networks.encoder",
    "crystal_agents.networks.gcn",
    "crystal_agents.networks.graph_batch",
    "crystal_agents.networks.message_edges",
    "crystal_agents.networks.readouts",
    "crystal_agents.training.fixed_shape",
    "crystal_agents.training.fixed_shape_loop",
    "crystal_agents.training.recipes",
    "crystal_agents.training.seeding",
    "crystal_agents.training.transition_batches",
)
# The other errors are also errors of Gymnasium, which the machine may lack.
_ERRORS = (CrystalGymError, errors._restore, UnknownNameError)  # noqa: SLF001 - restores them


def write_bundle(folder: Path, context: RunContext, seeds: Sequence[int]) -> Path:
    """Write a bundle of the trained columns of Table 1 to a folder, and return the folder.

    Args:
        folder: The folder; it must not exist.
        context: The collection, whose expert datasets are built.
        seeds: Seeds of the runs, for which the bundle has initial weights and draws.

    Raises:
        CrystalGymError: If the folder exists.
        MissingDataError: If the expert datasets are not built.
    """
    columns: dict[str, dict[str, Any]] = {
        name: {"network": variant.recipe, "trajectories": variant.trajectories}
        for name, variant in TABLE_1.variants.items()
        if variant.recipe is not None
    }
    if folder.exists():
        raise CrystalGymError(f"Expected a new folder, got {folder}, which exists. Choose another.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        temporary = Path(name) / folder.name
        temporary.mkdir()
        train, validation = context.transitions("train"), context.validation
        draws = {
            f"trajectories-{count}-seed-{seed}": draw_trajectories(train, count, seed)
            for count in sorted({column["trajectories"] for column in columns.values()})
            for seed in seeds
        }
        _save_split(temporary / "train.safetensors", train, draws)
        _save_split(temporary / "val.safetensors", validation, {})
        for network in {column["network"] for column in columns.values()}:
            for seed in seeds:
                torch.manual_seed(seed)
                policy = new_policy(get_recipe(network), train)
                save_file(policy.state_dict(), temporary / f"{network}-seed-{seed}.safetensors")
        record = {
            "collection": str(context.origin),
            "collection_sha256": context.sha256,
            "symbols": train.vocabulary,
            "max_sites": train.frac_coords.shape[1],
            "columns": columns,
            "seeds": list(seeds),
        }
        (temporary / "bundle.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        _copy_modules(temporary)
        temporary.rename(folder)
    return folder


def _save_split(path: Path, data: "Transitions", draws: dict[str, np.ndarray]) -> None:
    arrays = {
        "n_sites": data.n_sites.astype(np.int32),
        "frac_coords": data.frac_coords.astype(np.float32),
        "lattice": data.lattice.astype(np.float32),
        "edges": data.edges.astype(np.int16),
        "skeleton": data.skeleton.astype(np.int32),
        "elements": data.elements.astype(np.int16),
        "focus": data.focus.astype(np.int16),
        "action": data.action.astype(np.int16),
        **draws,
    }
    save_file({name: torch.as_tensor(array) for name, array in arrays.items()}, path)


def _copy_modules(folder: Path) -> None:
    for module in _MODULES:
        package = module.split(".")[0]
        source = Path(__import__(package).__file__ or "").parents[1]
        relative = Path(*module.split(".")).with_suffix(".py")
        target = folder / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / relative, target)
        for parent in relative.parents[:-1]:
            (folder / parent / "__init__.py").touch()
    (folder / "crystal_gym").mkdir()
    (folder / "crystal_gym" / "__init__.py").touch()
    header = "import difflib\nfrom collections.abc import Iterable\n"
    sources = [header, *map(inspect.getsource, _ERRORS)]
    (folder / "crystal_gym" / "errors.py").write_text("\n\n".join(sources), "utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Write a bundle."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="new folder of the bundle")
    parser.add_argument("--collection", default="perov-5", help="name or path of the collection")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the runs")
    options = parser.parse_args(arguments)
    folder = write_bundle(options.folder, RunContext(Path(), options.collection), options.seeds)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
