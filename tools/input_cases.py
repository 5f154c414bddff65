"""Read inputs that earlier versions read wrongly or refused, and print what happens now.

::

    python tools/input_cases.py CASES

CASES is the folder of the CIFs. The other inputs are written to a temporary folder. The output is
the table of `docs/inputs.md`; the exit code is 1 if a result is not the expected one.
"""

import csv
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from ase.io import write
from pymatgen.core import Lattice, Structure

from crystal_gym import load_collection
from crystal_gym.crystals.validity import is_valid
from crystal_gym.errors import CrystalGymError, ParserWarning
from crystal_gym.utils import settings

ZEOLITE = """data_zeolite
_cell_length_a 18.126
_cell_length_b 18.126
_cell_length_c 7.567
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_symmetry_space_group_name_H-M 'P 6/m m m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
O1 O 0.2651 0.5303 0.2500
"""


def perovskite(a: float = 3.905, *, elements: tuple[str, ...] = ("Sr", "Ti", "O")) -> Structure:
    """Return a cubic perovskite."""
    return Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(a), elements, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    )


def describe(origin: Any) -> str:
    """Load a collection and describe its crystals by formula, sites and split."""
    collection = load_collection(origin, progress=False)
    if len(collection) == 1:
        structure = collection.structure(0)
        return f"{structure.composition.formula.replace(' ', '')}, {len(structure)} sites"
    splits = Counter(collection.splits.tolist())
    return f"{len(collection)} crystals: " + ", ".join(f"{n} {s}" for s, n in splits.items())


def write_csv(path: Path, count: int, *, cell: str = "") -> Path:
    """Write a CSV of perovskites, or one whose only CIF has a text appended to it."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["material_id", "cif"])
        for i in range(count):
            rows.writerow([f"crystal-{i}", perovskite(3.9 + i / 1000).to(fmt="cif") + cell])
    return path


def long_cell(folder: Path) -> str:
    """Read a CIF that contains its reflections."""
    header = "loop_\n_refln_index_h\n_refln_index_k\n_refln_index_l\n_refln_F_squared_meas\n"
    reflections = header + "".join(f"{i} 0 1 {i}.25\n" for i in range(12_000))
    return describe(write_csv(folder / "long" / "long.csv", 1, cell=reflections))


def split_folders(folder: Path) -> str:
    """Read a folder with `train`, `valid` and `test`."""
    for split, count in (("train", 4), ("valid", 3), ("test", 2)):
        for i in range(count):
            path = folder / "splits" / split / f"{split}-{i}.cif"
            path.parent.mkdir(exist_ok=True, parents=True)
            perovskite(3.9 + i / 100).to(str(path))
    return describe(folder / "splits")


def subfolder(folder: Path) -> str:
    """Read a folder with one CIF and a subfolder with nine."""
    (folder / "mixed" / "oxides").mkdir(parents=True)
    for i in range(10):
        place = "top.cif" if i == 0 else f"oxides/{i}.cif"
        perovskite(3.9 + i / 100).to(str(folder / "mixed" / place))
    return describe(folder / "mixed")


def zeolite(folder: Path) -> str:
    """Read special positions with four decimals."""
    (folder / "zeolite.cif").write_text(ZEOLITE)
    return describe(folder / "zeolite.cif")


def command(folder: Path, *arguments: str) -> str:
    """Run a command of the package in a folder; return the end of its output."""
    program = [
        sys.executable,
        "-c",
        "from crystal_agents.cli.main import main; raise SystemExit(main())",
    ]
    variables = {"MINARI_DATASETS_PATH": str(folder / "minari"), "COLUMNS": "400"}
    done = subprocess.run(  # noqa: S603 - this package's own program
        [*program, *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return f"exit {done.returncode}: {(done.stderr or done.stdout).strip()}"


def other_crystals(folder: Path) -> str:
    """Build the datasets of one file and train on another file of the same name."""
    write_csv(folder / "x" / "data.csv", 40)
    write_csv(folder / "y" / "data.csv", 60)
    command(folder, "build-dataset", "x/data.csv")
    return command(folder, "train", "y/data.csv", "--epochs", "1", "--run-folder", "run")


def minari_list(folder: Path) -> str:
    """Build datasets of `data.csv` and list the local datasets with Minari."""
    write_csv(folder / "data.csv", 12)
    command(folder, "build-dataset", "data.csv")
    os.environ["MINARI_DATASETS_PATH"] = str(folder / "minari")
    import minari

    return f"{len(minari.list_local_datasets())} datasets are listed"


def edited_file(folder: Path) -> str:
    """Delete rows of a CSV after its dataset was built, and recover the environment."""
    from crystal_datasets import build_dataset

    os.environ["MINARI_DATASETS_PATH"] = str(folder / "minari")
    path = write_csv(folder / "edited" / "edited.csv", 30)
    name = build_dataset(path, "train", progress=False)
    write_csv(path, 20)
    import minari

    minari.load_dataset(name).recover_environment().reset()
    return "the environment plays"


def alloys(_: Path) -> str:
    """Return the validity of four alloys."""
    numbers = np.array([[26, 27], [28, 13], [22, 28], [11, 19]])
    valid = is_valid(numbers, "strict")
    return ", ".join("valid" if v else "invalid" for v in valid)


def step_limit(_: Path) -> str:
    """Truncate the episodes of a vector environment."""
    envs = gym.make_vec(
        "crystal_gym:CrystalSkeleton-v0", num_envs=2, max_episode_steps=3, collection="goldschmidt"
    )
    envs.reset(seed=0)
    for step in range(1, 6):
        truncated = envs.step(envs.action_space.sample())[3]
        if truncated.all():
            return f"truncates after {step} steps"
    return "no truncation"


def dummy_sites(_: Path) -> str:
    """Fill a structure of dummy sites."""
    from crystal_agents import load_policy

    structure = perovskite()
    dummy = Structure(structure.lattice, ["X"] * 5, structure.frac_coords)
    return f"filled: {load_policy('goldschmidt/egnn').fill(dummy)[0].formula}"


def formats(folder: Path) -> str:
    """Read one crystal in four formats."""
    structure = perovskite()
    place = folder / "formats"
    place.mkdir()
    structure.to(str(place / "POSCAR"), fmt="poscar")
    structure.to(str(place / "structure.json"), fmt="json")
    structure.to(str(place / "structure.cif.gz"), fmt="cif")
    write(place / "structure.extxyz", structure.to_ase_atoms(), format="extxyz")
    return "; ".join(sorted({describe(path) for path in place.iterdir()}))


class Case(NamedTuple):
    """An input.

    Attributes:
        title: The input.
        right: What is right.
        before: What version 0.1 did.
        expected: Pattern of the present result.
        run: A file to read, or a function of a temporary folder.
    """

    title: str
    right: str
    before: str
    expected: str
    run: str | Callable[[Path], str]


CASES = [
    Case(
        "`bi_R.cif`: `R -3 m :R` without operators",
        "Bi, 2 sites",
        "36 sites with the IT number, 1 without",
        "Bi2, 2 sites",
        "bi_R.cif",
    ),
    Case(
        "`lioh_noH.cif`: formula LiOH, no site of hydrogen",
        "an error that names H",
        "Li₂O₂",
        "H is missing",
        "lioh_noH.cif",
    ),
    Case(
        "`ho1.cif`: label `HO1`, formula with H",
        "Li₂O₂H₂",
        "Li₂Ho₂O₂",
        "Li2H2O2, 6 sites",
        "ho1.cif",
    ),
    Case(
        "`two_one_broken.cif`: a readable and an unreadable block",
        "an error that names the second block",
        "the first block",
        "'second' is not readable",
        "two_one_broken.cif",
    ),
    Case(
        "`bom.cif`: byte-order mark",
        "SrTiO₃, 5 sites",
        "refused",
        "Sr1Ti1O3, 5 sites",
        "bom.cif",
    ),
    Case(
        "`latin1.cif`: Latin-1 text",
        "SrTiO₃, 5 sites",
        "refused",
        "Sr1Ti1O3, 5 sites",
        "latin1.cif",
    ),
    Case(
        "`occ9999.cif`: occupancy 0.9999",
        "SrTiO₃, 5 sites",
        "refused",
        "Sr1Ti1O3, 5 sites, notice",
        "occ9999.cif",
    ),
    Case(
        "CSV cell of 200,000 characters",
        "SrTiO₃, 5 sites",
        "refused",
        "Sr1Ti1O3, 5 sites",
        long_cell,
    ),
    Case(
        "folder `train/ valid/ test/` with 4, 3 and 2 CIFs",
        "3 in val",
        "0 in val",
        "4 train, 3 val, 2 test",
        split_folders,
    ),
    Case(
        "one CIF in a folder, nine in `oxides/`",
        "10, or an error",
        "1",
        "9 files",
        subfolder,
    ),
    Case(
        "images of a site 0.001–0.003 Å apart",
        "merged, with a notice",
        "refused",
        "O12, 12 sites, notice",
        zeolite,
    ),
    Case(
        "`build-dataset x/data.csv`, `train y/data.csv`",
        "refused, both origins named",
        "trains on x, records y",
        "from y/data.csv.*from x/data.csv",
        other_crystals,
    ),
    Case(
        "`build-dataset data.csv`, `minari list local`",
        "works",
        "crashes",
        "3 datasets",
        minari_list,
    ),
    Case(
        "rows deleted after `build-dataset`, `recover_environment()`",
        "refused",
        "plays other crystals",
        "refused",
        edited_file,
    ),
    Case(
        "FeCo, NiAl, TiNi, NaK under `strict`",
        "invalid",
        "valid",
        "invalid, invalid, invalid, invalid",
        alloys,
    ),
    Case(
        "`make_vec(…, max_episode_steps=3)`",
        "truncates",
        "`TypeError`",
        "after 3 steps",
        step_limit,
    ),
    Case(
        "`policy.fill` of dummy sites `X`",
        "filled",
        "refused",
        "filled",
        dummy_sites,
    ),
    Case(
        "POSCAR, JSON, extended XYZ, `.cif.gz`",
        "read",
        "refused",
        "Sr1Ti1O3, 5 sites$",
        formats,
    ),
]


def outcome(case: Case, cases: Path, folder: Path) -> str:
    """Return the result of a case: its description or its error, and whether there is a notice."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            text = case.run(folder) if callable(case.run) else describe(cases / case.run)
        except CrystalGymError as error:
            text = f"refused: {error}"
    if any(issubclass(warning.category, ParserWarning) for warning in caught):
        text += ", notice"
    for place in (f"{folder}/", f"{cases}/"):
        text = text.replace(place, "")
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    """Print the table; return whether a result is not the expected one."""
    cases = Path(sys.argv[1]).resolve()
    print("| input | right | version 0.1 | now |\n|---|---|---|---|")
    wrong = 0
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            # A collection in the cache is not read again.
            os.environ[settings.CACHE_VARIABLE] = str(Path(folder) / "cache")
            now = outcome(case, cases, Path(folder).resolve())
        found = re.search(case.expected, now) is not None
        wrong += not found
        mark = "" if found else f" (expected: {case.expected})"
        print(f"| {case.title} | {case.right} | {case.before} | {now}{mark} |", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
