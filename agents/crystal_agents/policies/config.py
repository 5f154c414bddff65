"""The configuration of a policy, and its file."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from crystal_gym.collections import SPLIT_BY, canonical_split_by
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.errors import CrystalGymError, DamagedFileError
from crystal_gym.utils.files import atomic_write


@dataclass(frozen=True)
class PolicyConfig:
    """The configuration of a policy's network and the record of its training.

    Attributes:
        network: A name of ``crystal_agents.networks.registry.ENCODERS``.
        symbols: The V element symbols of the vocabulary, in order.
        max_sites: N, the number of sites of the largest cell in the training. It is a limit only
            for networks that encode the index of the site in focus.
        settings: Keyword arguments of the encoder.
        training: Record of the training. Its items ``collection`` and ``split_by`` determine the
            crystals that the policy was trained on; ``finetuning`` is a list with one such record
            for each subsequent online training.
        site_positions: Record of ``SitePositions``: where the training crystals have the site with
            each number. ``None``: a network that receives site numbers uses the given order of the
            sites without a check.
        targets: Record of ``PolicyTargets``: the labels that the policy can be asked for. ``None``:
            the policy is unconditional.
    """

    network: str
    symbols: tuple[str, ...]
    max_sites: int
    settings: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    site_positions: dict[str, Any] | None = None
    targets: dict[str, Any] | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The elements of the action space."""
        return Vocabulary(tuple(self.symbols))

    @property
    def training_records(self) -> list[dict[str, Any]]:
        """The records of all stages of the training that name a collection, in temporal order."""
        stages = [self.training, *self.training.get("finetuning", [])]
        return [stage for stage in stages if "collection" in stage]

    @property
    def learned_from(self) -> dict[str, str]:
        """The ``split_by`` of each collection of the training, in temporal order."""
        return {
            stage["collection"]: stage.get("split_by", "origin") for stage in self.training_records
        }

    def write(self, file: Path) -> None:
        """Write the configuration as JSON, without the fields that are None.

        Raises:
            StorageError: If the file cannot be written.
        """
        record = {name: value for name, value in asdict(self).items() if value is not None}
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")


def read_config(file: Path) -> PolicyConfig:
    """Read ``policy.json`` and check its fields.

    Raises:
        DamagedFileError: If the file is damaged or has the format of another version.
    """
    try:
        record = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"{file} is damaged: {error}.") from error
    expected = {item.name for item in fields(PolicyConfig)}
    names = set(record) if isinstance(record, dict) else set()
    if names | {"site_positions", "targets"} != expected:
        raise DamagedFileError(
            f"Expected the fields {', '.join(sorted(expected))} in {file}, got "
            f"{', '.join(sorted(names)) or 'none'}. Train the policy again, or load it with the "
            "version of crystal-gym that wrote it."
        )
    try:
        config = PolicyConfig(**{**record, "symbols": tuple(record["symbols"])})
        splits_by = config.learned_from.values()
    except (TypeError, AttributeError) as error:
        raise DamagedFileError(f"{file} is damaged: {error}.") from error
    for split_by in splits_by:
        try:
            canonical_split_by(split_by)
        except CrystalGymError as error:
            raise DamagedFileError(
                f"Expected split_by to be one of {', '.join(SPLIT_BY)} in {file}, got "
                f"{split_by!r}. Train the policy again, or load it with the version of crystal-gym "
                "that wrote it."
            ) from error
    return config
