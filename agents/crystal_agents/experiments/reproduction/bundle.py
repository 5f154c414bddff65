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

from crystal_agents.experiments.reproduction.experiment import Variant, altered_contexts
from crystal_agents.experiments.reproduction.runner import RunContext
from crystal_agents.experiments.reproduction.table_1 import TABLE_1
from crystal_agents.training.learner import new_policy
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
    "crystal_agents.training.precision",
    "crystal_agents.synthetic.config",
    "crystal_agents.training.recipes",
    "crystal_agents.training.seeding",
    "crystal_agents.training.transition_batches",
)
# The other errors are also errors of Gymnasium, which the machine may lack.
_ERRORS = (CrystalGymError, errors._restore, UnknownNameError)  # noqa: SLF001 - restores them


def write_bundle(
    folder: Path, context: RunContext, seeds: Sequence[int], columns: Sequence[str] = ()
) -> Path:
    """Write a bundle of trained columns of Table 1 to a folder, and return the folder.

    Args:
        folder: The folder; it must not exist.
        context: The collection, whose expert datasets are built.
        seeds: Seeds of the runs, for which the bundle has initial weights and draws.
        columns: Names of the columns (default: those of the paper that are trained).

    Raises:
        CrystalGymError: If the folder exists.
        UnknownNameError: If a column is unknown or not trained.
        MissingDataError: If the expert datasets are not built.
    """
    trained = {name: variant for name, variant in TABLE_1.variants.items() if variant.recipe}
    for name in columns:
        if name not in trained:
            raise UnknownNameError("column", name, trained)
    default = [name for name in TABLE_1.default if name in trained]
    chosen = {name: trained[name] for name in columns or default}
    if folder.exists():
        raise CrystalGymError(f"Expected a new folder, got {folder}, which exists. Choose another.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        temporary = Path(name) / folder.name
        temporary.mkdir()
        trajectories = {variant.trajectories for variant in chosen.values()}
        for altered in altered_contexts(context, chosen.values()).values():
            _save_transitions(temporary, altered, trajectories, seeds)
        train = context.transitions("train")
        records = {name: _column(variant) for name, variant in chosen.items()}
        for column, variant in zip(records.values(), chosen.values(), strict=True):
            recipe = variant.training_recipe(None)
            for seed in seeds:
                file = temporary / f"{column['weights']}-seed-{seed}.safetensors"
                if recipe is not None and not file.is_file():
                    torch.manual_seed(seed)
                    save_file(new_policy(recipe, train).state_dict(), file)
        record = {
            "collection": str(context.origin),
            "collection_sha256": context.sha256,
            "symbols": train.vocabulary,
            "max_sites": train.frac_coords.shape[1],
            "columns": records,
            "seeds": list(seeds),
        }
        (temporary / "bundle.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        _copy_modules(temporary)
        temporary.rename(folder)
    return folder


def _column(variant: Variant) -> dict[str, Any]:
    """Return what a run of a column needs to know."""
    settings = "".join(f"-{key}-{value}" for key, value in variant.settings.items())
    return {
        "network": variant.recipe,
        "settings": dict(variant.settings),
        "trajectories": variant.trajectories,
        "data": f"-{variant.altered}" if variant.altered else "",
        "weights": f"{variant.recipe}{settings}",
    }


def _save_transitions(
    folder: Path, context: RunContext, trajectories: set[int], seeds: Sequence[int]
) -> None:
    """Write the transitions of train and val, with masks of the trajectories that are drawn."""
    suffix = f"-{context.altered}" if context.altered else ""
    train = context.transitions("train")
    draws = {
        f"trajectories-{count}-seed-{seed}": draw_trajectories(train, count, seed)
        for count in sorted(trajectories)
        for seed in seeds
    }
    _save_split(folder / f"train{suffix}.safetensors", train, draws)
    _save_split(folder / f"val{suffix}.safetensors", context.validation, {})


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
    parser.add_argument("--columns", nargs="+", default=[], help="columns (default: the paper's)")
    options = parser.parse_args(arguments)
    context = RunContext(Path(), options.collection)
    folder = write_bundle(options.folder, context, options.seeds, options.columns)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
