"""``crystal-gym demo``: the whole path on the embedded collection, in minutes."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from crystal_agents.cli.command import Command, console
from crystal_agents.training.recipes import Recipe

# Small enough for two cores and two minutes.
RECIPE = Recipe(
    "egnn",
    {"hidden": 64, "vectors": 8, "geometry_layers": 1, "filling_layers": 2},
    epochs=20,
    skeletons=64,
)
NAME = "goldschmidt"


@dataclass
class Demo(Command):
    """From crystals to a trained policy, on the embedded collection `goldschmidt`.

    Prepares skeletons, writes the expert's trajectories as Minari data sets, clones them into a
    small network, fills the test crystals with it, and draws one of them being filled.
    """

    after_stop: ClassVar[str] = (
        "The same command goes on from the last checkpoint, if there is one yet."
    )

    folder: Path = Path("demo")
    """Where everything is written."""

    def run(self) -> None:
        """Run the path from top to bottom."""
        os.environ["MINARI_DATASETS_PATH"] = str((self.folder / "minari").resolve())
        from crystal_agents.cli.build_dataset import Build
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

        out.print("2. Skeletons: neighbors of every site, as for crystals of your own")
        start = time.perf_counter()
        prepared = goldschmidt.make_arrays(list(goldschmidt.perovskites())[:100])
        edges = int((prepared["edges"][:, :, 0] >= 0).sum())
        out.print(f"   100 crystals, {edges:,} edges in {time.perf_counter() - start:.1f} s")

        out.print("3. The expert's trajectories, as Minari data sets")
        Build(NAME, splits=("train", "val")).run()

        out.print("4. Behavioral cloning")
        data = load_transitions(dataset_id(NAME, "train"))
        validation = load_transitions(dataset_id(NAME, "val"))
        args = TrainingConfig(self.folder / "policy", RECIPE, provenance={"collection": NAME})
        policy = train(args, data.vocabulary, data, validation)
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
        out.print(f"6. A picture of one being filled: {picture}", soft_wrap=True)
