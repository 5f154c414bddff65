"""Peak memory of collections with one large cell, and of preparing the synthetic posterior.

python benchmarks/memory.py collection
python benchmarks/memory.py posterior --per-filling 1
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import common
import tyro

# Prints the megabytes after the imports, the peak, that of the largest child, and the seconds.
SCRIPT = """
import json, os, resource, sys, time
import numpy as np
import gymnasium as gym
import crystal_gym
{imports}

def megabytes(who=resource.RUSAGE_SELF):
    return resource.getrusage(who).ru_maxrss / 1000

args = json.loads(sys.argv[1])
imported, start = megabytes(), time.perf_counter()
{work}
seconds = time.perf_counter() - start
print(json.dumps([imported, megabytes(), megabytes(resource.RUSAGE_CHILDREN), seconds]))
"""

CRYSTAL_IMPORTS = """
from pathlib import Path
from crystal_gym.collections.structures import collection_from_structures
from crystal_gym.collections.preparation import load_prepared, save_arrays
from crystal_gym.collections.collection import ARRAYS
import pymatgen.core
"""

# Cubic perovskites with displaced sites; the last one is a supercell.
PREPARE = """
from pymatgen.core import Lattice, Structure
rng = np.random.default_rng(0)
sites = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
cell = Structure(Lattice.cubic(3.9), ["Sr", "Ti", "O", "O", "O"], sites)
structures = [cell.copy().perturb(0.05) for _ in range(args["cells"])]
structures.append(cell * ((args["repeats"],) * 3))
structures[-1].perturb(0.05)
collection = collection_from_structures(structures, name="cells")
save_arrays(Path(args["file"]), {name: getattr(collection, name) for name in ARRAYS})
"""
LOAD = """
collection = load_prepared(Path(args["file"]), "cells", "")
"""
PLAY = (
    LOAD
    + """
envs = gym.make_vec("CrystalSkeleton-v0", args["num_envs"], collection=collection, split="all")
envs.reset(seed=0)
for _ in range(args["steps"]):
    envs.step(envs.expert_action())
"""
)

POSTERIOR_IMPORTS = """
from types import SimpleNamespace
from pathlib import Path
from crystal_agents.synthetic.generation import SyntheticConfig, SyntheticGenerator
from crystal_gym.episode import EpisodeTable
"""
# The generator needs the first transitions of every crystal only.
POSTERIOR = """
collection = crystal_gym.load_collection("perov-5")
crystals = collection.take(collection.in_split("train"))
table = EpisodeTable(crystals, collection.vocabulary)
n = table.max_sites
data = SimpleNamespace(
    vocabulary=collection.vocabulary.symbols,
    n_sites=table.n_sites,
    frac_coords=table.frac_coords,
    lattice=table.lattice,
    skeleton=np.repeat(np.arange(len(crystals)), n),
    focus=np.tile(np.arange(n), len(crystals)),
    action=table.true_elements.ravel() - 1,
)
os.environ["CRYSTAL_GYM_CACHE"] = args["file"]
config = SyntheticConfig(steps=args["steps"], per_filling=args["per_filling"])
SyntheticGenerator(data, config).crystals(progress=False)
"""


@dataclass(kw_only=True)
class Collection(common.Args):
    """Small cells and one large cell: memory of the collection and of its vector environment."""

    cells: int = 400
    """Number of cells with 5 sites."""
    repeats: int = 5
    """Repeats of a cell with 5 sites along each axis of the large cell."""
    num_envs: int = 16
    """Environments in the vector environment."""
    steps: int = 50
    """Steps of the vector environment."""


@dataclass(kw_only=True)
class Posterior(common.Args):
    """Perov-5's design space of 18,928 fillings: memory of synthetic crystals and posterior."""

    per_filling: int = 1
    """Synthetic crystals for each filling; recipes use 3."""
    steps: int = 200
    """Training steps of the density networks; recipes use 8,000."""


def run(imports: str, work: str, args: common.Args, file: str) -> dict[str, float]:
    """Return the memory and the time of some work in a new process."""
    script = SCRIPT.format(imports=imports, work=work)
    values = json.dumps({**common.arguments(args), "file": file})
    done = subprocess.run(  # noqa: S603 - the script above
        [sys.executable, "-c", script, values], stdout=subprocess.PIPE, text=True, check=True
    )
    imported, peak, child, seconds = json.loads(done.stdout.splitlines()[-1])
    return {
        "MB after the imports": imported,
        "MB at most": peak,
        "MB beyond the imports": peak - imported,
        "MB of the largest worker process": child,
        "seconds": seconds,
    }


def measure(args: Collection | Posterior) -> dict[str, Any]:
    """Run the stages in new processes, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(args, Posterior):
            return {"synthetic": run(POSTERIOR_IMPORTS, POSTERIOR, args, folder)}
        file = Path(folder) / "cells.npz"
        stages = {"prepare": PREPARE, "load": LOAD, "load and play": PLAY}
        results = {
            name: run(CRYSTAL_IMPORTS, work, args, str(file)) for name, work in stages.items()
        }
        return {"file": {"MB": file.stat().st_size / 1e6}, **results}


if __name__ == "__main__":
    Case = (
        Annotated[Collection, tyro.conf.subcommand("collection")]
        | Annotated[Posterior, tyro.conf.subcommand("posterior")]
    )
    case = tyro.cli(Case)
    results = measure(case)
    common.report(
        {"arguments": common.arguments(case), **results, "machine": common.machine()},
        case.json,
    )
