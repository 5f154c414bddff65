"""``crystal-gym demo``: the whole workflow on the embedded collection, in minutes."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from crystal_agents.cli.command import RESUMES, Command, console
from crystal_agents.training.recipes import Recipe

# Small enough to train on two cores in two minutes.
RECIPE = Recipe(
    "egnn",
    {"hidden": 64, "vectors": 8, "geometry_layers": 1, "filling_layers": 2},
    epochs=20,
    skeletons=64,
)
NAME = "goldschmidt"


@dataclass
class Demo(Command):
    """Run the whole workflow from crystals to a trained policy on the embedded collection.

    Prepares skeletons, writes the expert's trajectories as Minari datasets, trains a small network
    by behavioral cloning, evaluates it on the test crystals and draws one episode.
    """

    after_stop: ClassVar[str] = RESUMES

    folder: Path = Path("demo")
    """Folder of all outputs."""

    def run(self) -> None:
        """Run the steps one after the other."""
        os.environ["MINARI_DATASETS_PATH"] = str((self.folder / "minari").resolve())
        from crystal_agents.cli.build_dataset import BuildDataset
        from crystal_agents.cli.evaluate import report_table
        from crystal_agents.evaluation.evaluate import evaluate
        from crystal_agents.policies.frames import filling_frames, save_grid
        from crystal_agents.training.behavioral_cloning import train
        from crystal_agents.training.config import TrainingConfig
        from crystal_datasets import dataset_id, load_transitions
        from crystal_gym.collections import goldschmidt, load_collection

        out = console()
        out.print("1. Crystals")
        collection = load_collection(NAME)
        out.print(f"   {collection!r}\n   {collection.description}")

        out.print("2. Skeletons: the neighbor graph of every cell")
        start = time.perf_counter()
        prepared = goldschmidt.make_arrays(list(goldschmidt.perovskites())[:100])
        edges = len(prepared["flat_edges"])
        out.print(f"   100 crystals, {edges:,} edges in {time.perf_counter() - start:.1f} s")

        out.print("3. The expert's trajectories as Minari datasets")
        BuildDataset(NAME, splits=("train", "val")).run()

        out.print("4. Behavioral cloning")
        data = load_transitions(dataset_id(NAME, "train"))
        validation = load_transitions(dataset_id(NAME, "val"))
        config = TrainingConfig(self.folder / "policy", RECIPE, provenance={"collection": NAME})
        policy = train(config, data, validation)
        record = policy.config.training
        out.print(
            f"   {record['epochs']} epochs of {len(data):,} transitions in "
            f"{record['seconds']:.0f} s"
        )

        out.print("5. Test crystals, filled from their empty skeletons")
        out.print(report_table(evaluate({"small egnn": [policy]}, collection, "test")))

        picture = self.folder / "filling.png"
        crystal = int(collection.in_split("test")[0])
        save_grid(filling_frames(policy, collection, crystal), picture)
        out.print(f"6. A picture of one episode: {picture}", soft_wrap=True)
