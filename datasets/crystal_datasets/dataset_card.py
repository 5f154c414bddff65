"""The dataset card: contents, statistics, usage and origin of a dataset, in Markdown."""

from collections.abc import Mapping
from typing import Any

from crystal_datasets.task import describe_task
from crystal_gym.collections.collection import CrystalCollection

# Origin, citation and license of the named collections.
_ORIGINS = {
    "perov-5": (
        "DFT-relaxed perovskites of I. E. Castelli et al., *Energy Environ. Sci.* **5**, 9034 "
        "(2012), doi:10.1039/C2EE22341D, with the selection and splits of CDVAE (T. Xie et al., "
        "*Crystal Diffusion Variational Autoencoder for Periodic Material Generation*, ICLR 2022), "
        "distributed under the MIT license. Please cite both."
    ),
    "mp-20": (
        "Crystals of the Materials Project (A. Jain et al., *APL Materials* **1**, 011002 (2013); "
        "CC BY 4.0) with up to 20 sites, with the selection and splits of CDVAE (T. Xie et al., "
        "ICLR 2022; MIT license). Please cite both."
    ),
    "goldschmidt": (
        "**Computed, not measured**: charge-neutral ABX3 compositions and lattice constants that "
        "crystal-gym computes from oxidation states and Shannon radii (R. D. Shannon, *Acta Cryst. "
        "A* **32**, 751 (1976)), MIT license. Many of these compounds do not exist."
    ),
}
_OTHER_ORIGIN = (
    "A collection provided by the user. The terms of its origin continue to apply to its crystals."
)

_BEHAVIORS = {
    "expert": "The expert assigns the true element to each site.",
    "random": "The element of every site is drawn uniformly from the vocabulary.",
    "mixed": (
        "Each episode follows one of several behavior policies, given as `behavior` in the "
        "episode's metadata. The episodes are assigned at random; the proportions are exact."
    ),
    "replay": "The episodes are those of an online learner, in their original order.",
}


def dataset_card(metadata: Mapping[str, Any], collection: CrystalCollection) -> str:
    """Return the card of a complete dataset.

    Args:
        metadata: ``MinariStorage.metadata``, with the section ``crystal_gym``.
        collection: The crystals of the dataset.
    """
    settings = metadata["crystal_gym"]
    sizes = collection.n_sites[collection.in_split(settings["split"])]
    sites = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    vocabulary = settings["vocabulary"]
    return f"""# {metadata["dataset_id"]}

{metadata["description"]}

{_behavior(settings)} {describe_task(settings)}
{_coverage(settings)}

| | |
|---|---|
| episodes | {metadata["total_episodes"]:,} |
| episodes dropped for a non-finite reward | {settings["dropped_episodes"]:,} |
| steps | {metadata["total_steps"]:,} |
| crystals | {settings["crystals"]:,} (split `{settings["split"]}` of `{settings["collection"]}`) |
| origin of the crystals | {_origin(settings)} |
| fingerprint of the crystals | `{settings["collection_sha256"]}` |
| crystals of the origin that could not be read | {settings["excluded_crystals"]:,} |
| sites of a crystal | {sites} |
| elements of the action space | {len(vocabulary)}: {" ".join(vocabulary)} |
{_returns(metadata)}
| size on disk | {metadata["dataset_size"]} MB |
| Minari | {metadata["minari_version"]} |

## Contents

{_observations(settings)}
Action `a` assigns the element with code `a + 1` to the site in focus.
{_reward(settings["reward"], settings["reward_definition"])}

Episode metadata: `crystal` (its id in the collection), `row` (its row in the collection), `split`
and `start_site` (the site filled first){_kept(settings)}.
The HDF5 file stores the arrays that all episodes of a crystal share ({_shared(settings)}) once,
with hard links.

## Usage

```python
import minari

dataset = minari.load_dataset("{metadata["dataset_id"]}")
for episode in dataset.iterate_episodes():
    ...
metadata = next(iter(dataset.storage.get_episode_metadata([0])))
{_recovery("env_spec" in metadata, settings)}
```

{_training(metadata)}
## Origin and license

{_license(settings)}
"""


def _observations(settings: Mapping[str, Any]) -> str:
    """Describe the observations: the keys of dicts, or the blocks of vectors."""
    codes = f"1 to\n{len(settings['vocabulary'])} the elements above in their order"
    if "flat_blocks" not in settings:
        return (
            "Observations are those of `CrystalSkeleton-v0`: `element` (-1 no site, 0 empty, "
            f"{codes}), `frac_coords`, `lattice` (lengths in Å,\nangles in degrees), `edges` "
            "(source, target and periodic image) and `focus`, the site to fill."
        )
    blocks = settings["flat_blocks"].items()
    listed = ", ".join(f"`{name}` from {start} to {stop - 1}" for name, (start, stop) in blocks)
    return (
        "Observations are those of `CrystalSkeletonFlat-v0`: float32 vectors of the blocks "
        f"{listed}.\nThe block `element` has the one-hot code of each site (0 empty, {codes}), "
        "`focus` the one-hot site to fill.\n`crystal_gym.envs.flat_layout.FlatLayout` describes "
        "all blocks."
    )


def _shared(settings: Mapping[str, Any]) -> str:
    geometry = "" if "flat_blocks" in settings else "geometry, "
    return f"{geometry}terminations, truncations"


def _training(metadata: Mapping[str, Any]) -> str:
    """Return how to load flat arrays, which datasets with flat observations do not support."""
    if "flat_blocks" in metadata["crystal_gym"]:
        return ""
    return f"""Flat arrays for training, with one trajectory for each crystal:

```python
from crystal_datasets import load_transitions

transitions = load_transitions("{metadata["dataset_id"]}", trajectories=1)
```
"""


def _origin(settings: Mapping[str, Any]) -> str:
    return f"`{settings['origin']}`" if settings["origin"] else "a collection created in Python"


def _license(settings: Mapping[str, Any]) -> str:
    """Return origin and license; a file that has the name of a collection is another origin."""
    name = settings["origin"] or settings["collection"].partition("-by-")[0]
    return _ORIGINS.get(name, _OTHER_ORIGIN)


def _coverage(settings: Mapping[str, Any]) -> str:
    if settings["behavior"] == "replay":
        return f"Learner: {settings['algorithm']}."
    return (
        "The sites are filled in breadth-first order from a start site. Each crystal has episodes "
        f"from up to\n{settings['trajectories']} start sites; larger crystals start from a random "
        f"sample of their sites (seed {settings['seed']})."
    )


def _returns(metadata: Mapping[str, Any]) -> str:
    """Return the table rows with statistics of the returns and the reference returns."""
    settings = metadata["crystal_gym"]
    rows = {"return of an episode": settings["returns"]}
    components = {component["name"]: component for component in settings.get("mixture", ())}
    for name, statistics in settings.get("returns_by", {}).items():
        label = name + _policy(components[name])
        rows[f"{label}: {statistics['episodes']:,} episodes, return"] = statistics
    lines = [
        f"| {label} | {r['mean']:.4f} ± {r['std']:.4f}, from {r['min']:.4f} to {r['max']:.4f} |"
        for label, r in rows.items()
    ]
    if "ref_min_score" in metadata:
        low, high = metadata["ref_min_score"], metadata["ref_max_score"]
        lines += [
            f"| expected return of uniform random actions | {low:.4f} (`ref_min_score`) |",
            f"| return of the expert | {high:.4f} (`ref_max_score`) |",
        ]
    return "\n".join(lines)


def _policy(component: Mapping[str, Any]) -> str:
    if "policy" not in component:
        return ""
    return f" (`{component['policy']}` at temperature {component['temperature']:g})"


def _kept(settings: Mapping[str, Any]) -> str:
    return ", and `keep` (the kept sites)" if "start" in settings else ""


def _reward(name: str, definition: str | None) -> str:
    if name == "match":
        return (
            "The reward is `match`: 1/n for each of the n sites that gets its true element, so the "
            "return is the\nfraction of sites with the true element."
        )
    definition = f" ({definition})" if definition else ""
    return f"The reward is `{name}`{definition}; the table above has statistics of the returns."


def _behavior(settings: Mapping[str, Any]) -> str:
    if settings["behavior"] == "random" and "mask" in settings:
        return "The element of every site is drawn uniformly from those that the mask allows."
    return _BEHAVIORS[settings["behavior"]]


def _recovery(has_environment: bool, settings: Mapping[str, Any]) -> str:
    if not has_environment:
        return "# The environment cannot be recovered: its collection or its reward has no name."
    names = ["crystal", "start_site"]
    if "start" in settings:
        names.append("keep")
    options = ", ".join(f'"{name}": metadata["{name}"]' for name in names)
    return (
        "env = dataset.recover_environment()\n"
        f"observation, info = env.reset(\n    options={{{options}}}\n)"
    )
