"""The card of a data set: what it holds and where it comes from, in Markdown."""

from collections.abc import Mapping
from typing import Any

from crystal_gym.collections.collection import CrystalCollection

# Source, citation and licence of the named collections' crystals.
_ORIGINS = {
    "perov-5": (
        "DFT-relaxed perovskites of I. E. Castelli et al., *Energy Environ. Sci.* **5**, 9034 "
        "(2012), doi:10.1039/C2EE22341D, in the selection and split of CDVAE (T. Xie et al., "
        "*Crystal Diffusion Variational Autoencoder for Periodic Material Generation*, ICLR 2022), "
        "which is distributed under the MIT licence. Please cite both."
    ),
    "mp-20": (
        "Crystals of the Materials Project (A. Jain et al., *APL Materials* **1**, 011002 (2013); "
        "CC BY 4.0) with up to 20 sites, in the selection and split of CDVAE (T. Xie et al., ICLR "
        "2022; MIT licence). Please cite both."
    ),
    "goldschmidt": (
        "**Computed, not measured**: charge-neutral ABX3 compositions and lattice constants worked "
        "out from oxidation states and Shannon radii (R. D. Shannon, *Acta Cryst. A* **32**, 751 "
        "(1976)) by crystal-gym itself, MIT licence. Many of these compounds do not exist."
    ),
}
_OTHER_ORIGIN = "A collection given by the user; its crystals stay under the terms of their source."

_BEHAVIOURS = {
    "expert": "The expert puts back each site's true element.",
    "random": "Every element is drawn uniformly from the vocabulary, at every site.",
    "mixed": (
        "Each episode is played from its start to its end by one of several behaviors, named "
        "`behavior` in the episode's metadata. Who plays which episode is drawn at random; the "
        "proportions are exact."
    ),
    "replay": "These are the episodes that an online learner saw, in their order.",
}


def dataset_card(metadata: Mapping[str, Any], collection: CrystalCollection) -> str:
    """The card of a complete data set.

    Args:
        metadata: as ``MinariStorage.metadata`` gives it, with the section ``crystal_gym``.
        collection: the crystals.
    """
    own = metadata["crystal_gym"]
    dataset_id, split = metadata["dataset_id"], own["split"]
    sizes = collection.n_sites[collection.in_split(split)]
    sites = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    source = own["collection"].removesuffix("-by-composition")
    recover = (
        "env = dataset.recover_environment()\n"
        "observation, info = env.reset(\n"
        '    options={"crystal": metadata["crystal"], "start_site": metadata["start_site"]}\n'
        ")\n"
        if "env_spec" in metadata
        else "# No environment can be recovered: its collection or reward has no name.\n"
    )
    return f"""# {dataset_id}

{metadata["description"]}

{_BEHAVIOURS[own["behavior"]]} An episode starts from an empty skeleton.
{_coverage(own)}{_left_out(own)}

| | |
|---|---|
| episodes | {metadata["total_episodes"]:,} |
| steps | {metadata["total_steps"]:,} |
| crystals | {own["crystals"]:,} (split `{split}` of `{own["collection"]}`) |
| sites in a crystal | {sites} |
| elements of the action space | {len(own["vocabulary"])}: {" ".join(own["vocabulary"])} |
{_returns(metadata)}
| size on disk | {metadata["dataset_size"]} MB |
| Minari | {metadata["minari_version"]} |

## What an episode holds

Observations are those of `CrystalSkeleton-v0`: `element` (-1 no site, 0 empty, 1 to
{len(own["vocabulary"])} the elements above in their order), `frac_coords`, `lattice` (lengths in Å,
angles in degrees), `edges` (source, target and periodic image) and `focus`, the site to be filled.
Action `a` puts the element with code `a + 1` on the focus. {_reward(own["reward"])}

Episode metadata: `crystal` (the collection's id), `row` (in the collection), `split`, and `source`
(the site filled first). In the HDF5 file, what all episodes of one crystal have in common
(geometry, terminations, truncations) is stored once and hard-linked.

## How to load it

```python
import minari

dataset = minari.load_dataset("{dataset_id}")
for episode in dataset.iterate_episodes():
    ...
metadata = next(iter(dataset.storage.get_episode_metadata([0])))
{recover}```

Flat arrays for training, with one, three or five trajectories for each crystal:

```python
from crystal_datasets import load_transitions

transitions = load_transitions("{dataset_id}", trajectories=1)
```

## Source and licence

{_ORIGINS.get(source, _OTHER_ORIGIN)}
"""


def _coverage(own: Mapping[str, Any]) -> str:
    if own["behavior"] == "replay":
        return f"The learner: {own['algorithm']}."
    return (
        "Its sites are filled in breadth-first order from a start site. Each crystal has episodes "
        f"from up to\n{own['trajectories']} start sites (all of them where it has no more; else a "
        f"sample, seed {own['seed']})."
    )


def _left_out(own: Mapping[str, Any]) -> str:
    if not own["left_out"]:
        return ""
    return (
        f" {own['left_out']:,} episodes are left out, because the reward of their crystal is no "
        "finite number."
    )


def _returns(metadata: Mapping[str, Any]) -> str:
    """Rows of the table: what the episodes earned, and what there is to compare it with."""
    own = metadata["crystal_gym"]
    rows = {"return of an episode": own["returns"]}
    shares = {part["name"]: part for part in own.get("mixture", ())}
    for name, returns in own.get("returns_by", {}).items():
        part = shares[name]
        policy = (
            f" (`{part['policy']}` at temperature {part['temperature']:g})"
            if "policy" in part
            else ""
        )
        rows[f"{name}{policy}: {returns['episodes']:,} episodes, return"] = returns
    lines = [
        f"| {name} | {r['mean']:.4f} ± {r['std']:.4f}, from {r['min']:.4f} to {r['max']:.4f} |"
        for name, r in rows.items()
    ]
    if "ref_min_score" in metadata:
        low, high = metadata["ref_min_score"], metadata["ref_max_score"]
        lines += [
            f"| return of uniform random actions | {low:.4f} (`ref_min_score`) |",
            f"| return of the expert | {high:.4f} (`ref_max_score`) |",
        ]
    return "\n".join(lines)


def _reward(name: str) -> str:
    if name == "match":
        return (
            "The reward is `match`: 1/n for each of\nthe n sites filled as in the crystal, so "
            "that a return is the share of right sites."
        )
    return f"The reward is `{name}`; the returns are told above."
