"""Record results of the package, to show that restructuring does not change them.

    python tools/behavior_snapshot.py --write tools/behavior.json    # before the change
    python tools/behavior_snapshot.py --compare tools/behavior.json  # after it

The record contains SHA-256 digests and exact numbers: test crystals filled by all pretrained
policies, the first 50 training losses of each recipe, the arrays of built datasets, and episodes of
the environments. The results of a network depend on the processor and the version of PyTorch, so
compare on one machine.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np

STEPS = 50


def digest(*arrays: np.ndarray) -> str:
    """Return the SHA-256 of the shapes, types and bytes of arrays."""
    sha = hashlib.sha256()
    for array in map(np.asarray, arrays):
        sha.update(f"{array.shape} {array.dtype}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def evaluations() -> dict[str, object]:
    """Evaluate each pretrained policy on its test split, from up to five start sites."""
    from crystal_agents.policies.policy import PolicyScorer, load_policy
    from crystal_agents.policies.pretrained import pretrained_policies
    from crystal_agents.rollouts.rollout import batch_by_size, roll_out
    from crystal_gym.collections import load_collection
    from crystal_gym.episode import EpisodeTable

    results = {}
    for name in sorted(pretrained_policies()):
        policy = load_policy(name)
        collection = load_collection(name.partition("/")[0])
        table = EpisodeTable(collection, policy.vocabulary)
        score = PolicyScorer(policy, table)
        accuracies, arrays = [], []
        for group in batch_by_size(table, collection.in_split("test"), 5, 0):
            filled = roll_out(table, group, score)
            n = filled.rank.shape[-1]
            accuracies.append(
                (filled.elements == table.true_elements[group.crystals])[..., :n].mean((0, 2))
            )
            arrays += [filled.elements, filled.rank, filled.confidence]
        results[name] = {
            "accuracy": float(np.concatenate(accuracies).mean()),
            "digest": digest(*arrays),
        }
    return results


def losses() -> dict[str, object]:
    """Record the first training losses of each recipe, in epochs of a single batch."""
    import torch

    from crystal_agents.synthetic import SyntheticGenerator
    from crystal_agents.synthetic.generation import SyntheticConfig
    from crystal_agents.training.behavioral_cloning import train
    from crystal_agents.training.config import TrainingConfig
    from crystal_agents.training.cql import CQLConfig, train_cql
    from crystal_agents.training.recipes import RECIPES, value_recipe
    from crystal_datasets import dataset_id, load_transitions
    from crystal_datasets.build import build_dataset

    build_dataset("goldschmidt", "train")
    data = load_transitions(dataset_id("goldschmidt", "train"))
    # A subset of the transitions that fits in one batch.
    part = np.flatnonzero(data.skeleton < 12)
    names = ("skeleton", "trajectory", "start_site", "step", "elements", "focus", "action")
    fields = {name: getattr(data, name)[part] for name in (*names, "reward", "done")}
    small = dataclasses.replace(data, **fields)
    synthetic = SyntheticGenerator(
        data, SyntheticConfig(members=1, steps=50, per_filling=1)
    ).crystals()
    synthetic = dataclasses.replace(
        synthetic,
        collection=synthetic.collection.take(np.arange(24)),
        candidates=synthetic.candidates[:24],
        probability=synthetic.probability[:24],
    )
    runs = {name: (name, recipe) for name, recipe in RECIPES.items()}
    runs["cql"] = ("cql", value_recipe(RECIPES["egnn"]))
    results = {}
    for name, long_recipe in runs.values():
        recipe = dataclasses.replace(long_recipe, epochs=STEPS)
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingConfig(run=Path(folder), recipe=recipe, seed=3, validate_every=STEPS)
            if name == "cql":
                policy = train_cql(args, CQLConfig(), small, progress=False)
            else:
                extra_data = synthetic if recipe.synthetic else None
                policy = train(args, small, None, extra_data, progress=False)
            history = (Path(folder) / "metrics.csv").read_text().splitlines()
        column = history[0].split(",").index("loss")
        values = [float(line.split(",")[column]) for line in history[1:]]
        if len(values) != STEPS or policy.config.training["steps"] != STEPS:
            raise SystemExit(f"{name}: expected {STEPS} losses, got {len(values)}.")
        weights = [value.numpy() for value in policy.state_dict().values()]
        results[name] = {"losses": values, "weights": digest(*weights)}
    torch.manual_seed(0)
    return results


def datasets() -> dict[str, object]:
    """Return digests of the arrays in built HDF5 files, without metadata."""
    import h5py

    from crystal_datasets import dataset_id
    from crystal_datasets.build import build_dataset

    results = {}
    settings = [("expert", "match"), ("random", "match"), ("expert", "validity-strict")]
    for behavior, reward in settings:
        build_dataset("goldschmidt", "val", behavior, reward=reward, seed=1)
        name = dataset_id("goldschmidt", "val", behavior, reward)
        path = Path(os.environ["MINARI_DATASETS_PATH"]) / name / "data" / "main_data.hdf5"
        sha = hashlib.sha256()

        def visit(key: str, item: object, sha: "hashlib._Hash" = sha) -> None:
            if isinstance(item, h5py.Dataset):
                sha.update(f"{key} {digest(item[()])}".encode())

        with h5py.File(path) as file:
            file.visititems(visit)
        results[f"{behavior} {reward}"] = sha.hexdigest()
    return results


def environments() -> dict[str, str]:
    """Return digests of seeded episodes of the single and the vector environment."""
    results = {}
    for collection in ("goldschmidt", "perov-5"):
        for reward, mask in (("match", "none"), ("validity-strict", "charge-neutral")):
            keywords = {"collection": collection, "reward": reward, "mask": mask}
            name = "crystal_gym:CrystalSkeleton-v0"
            env = gym.make(name, split="train", **keywords)
            env.action_space.seed(7)
            arrays = []
            observation, info = env.reset(seed=5)
            for _ in range(300):
                arrays += [observation[key] for key in sorted(observation)]
                arrays.append(info["action_mask"])
                action = env.action_space.sample(info["action_mask"])
                observation, step_reward, terminated, _, info = env.step(action)
                arrays += [np.float64(step_reward), np.bool_(terminated)]
                if terminated:
                    observation, info = env.reset()
            vector = gym.make_vec(name, num_envs=64, split="train", **keywords)
            rng = np.random.default_rng(11)
            observation, info = vector.reset(seed=5)
            for _ in range(60):
                arrays += [observation[key] for key in sorted(observation)]
                masks = info["action_mask"]
                action = (rng.random(masks.shape) * masks).argmax(1)
                observation, rewards, terminated, truncated, info = vector.step(action)
                arrays += [rewards, terminated, truncated]
            results[f"{collection} {reward} {mask}"] = digest(*arrays)
    return results


def main() -> int:
    """Write the record, or compare with an earlier one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", type=Path, help="write the record to this file")
    group.add_argument("--compare", type=Path, help="compare with the record in this file")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        record = {}
        for part in (environments, datasets, losses, evaluations):
            record[part.__name__] = part()
            print(f"{part.__name__}: {len(record[part.__name__])} entries")
    if args.write:
        args.write.write_text(json.dumps(record, indent=1) + "\n")
        return 0
    before = json.loads(args.compare.read_text())
    differing = [
        f"{part}: {key}"
        for part in before | record
        for key in before.get(part, {}) | record.get(part, {})
        if before.get(part, {}).get(key) != json.loads(json.dumps(record))[part].get(key)
    ]
    print("\n".join(f"differs: {line}" for line in differing) or "All entries are equal.")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
