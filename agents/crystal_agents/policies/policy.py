"""The policy: a network that puts elements on sites, saved and loaded without pickles."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crystal_agents.networks.graph_batch import SkeletonBatch, SkeletonStore
from crystal_agents.networks.registry import make_encoder
from crystal_agents.policies.pretrained import pretrained_folder, pretrained_policies
from crystal_agents.rollouts.rollout import crystals_of
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError, UnknownNameError
from crystal_gym.masks import Mask
from crystal_gym.utils.files import atomic_write

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from crystal_agents.rollouts.complete_structure import FilledStructure
    from crystal_gym.crystals.skeleton import Skeleton
    from crystal_gym.masks import Mask

CONFIG_FILE = "policy.json"
WEIGHTS_FILE = "policy.safetensors"


@dataclass(frozen=True)
class PolicyConfig:
    """All that is needed to build a policy's network, and where it comes from.

    Attributes:
        network: a name of ``crystal_agents.networks.registry.ENCODERS``.
        symbols: the vocabulary's V element symbols, in order.
        max_sites: N, sites of the largest cell it was made for; a limit only to networks that are
            told the focus as a number.
        settings: keyword arguments of the encoder.
        training: how it was trained: for the reader, but for ``collection``, ``split_by`` and
            ``finetuning``, a list of the like for each online training that followed.
    """

    network: str
    symbols: tuple[str, ...]
    max_sites: int
    settings: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def vocabulary(self) -> Vocabulary:
        """The elements of the action space."""
        return Vocabulary(tuple(self.symbols))

    @property
    def learned_from(self) -> dict[str, str]:
        """The collections it has learned from, in that order, and what each was split by."""
        stages = [self.training, *self.training.get("finetuning", [])]
        return {
            stage["collection"]: stage.get("split_by", "origin")
            for stage in stages
            if "collection" in stage
        }


class SkeletonPolicy(nn.Module):
    """An encoder of sites and a readout: states of skeletons to logits over the vocabulary.

    The same module serves behavioral cloning, evaluation and online RL.

    Args:
        config: the network and its vocabulary.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = config.vocabulary
        n_elements = len(config.symbols)
        self.encoder = make_encoder(config.network, n_elements, config.settings)
        self.readout = self.encoder.make_readout(n_elements, config.max_sites)

    @property
    def needs_focus(self) -> bool:
        """Whether the network is told the focus as a number and so has a limit on sites."""
        return self.readout.needs_focus

    def forward(
        self, batch: SkeletonBatch, elements: Tensor, focus: Tensor | None = None
    ) -> Tensor:
        """Logits over the vocabulary for K states of each of S skeletons.

        Args:
            batch: the skeletons, s sites in all.
            elements: codes of the K fillings, int64 (K, s): 0 empty, 1 to V.
            focus: the site to be filled next, numbered within its skeleton, int64 (K, S). Without
                it every site is read: only for networks that are not told the focus.

        Returns:
            (K, S, V), or (K, s, V) without a focus.
        """
        embedding = self.encoder(batch, elements)
        if focus is None:
            return self.readout.every_site(embedding)
        return self.readout(batch, embedding, focus)

    @torch.no_grad()
    def probabilities(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Probabilities over the vocabulary in a state of the environment.

        Args:
            observation: of ``CrystalSkeleton-v0``, one or a batch of B.

        Returns:
            float32 (V,) or (B, V).
        """
        single = np.ndim(observation["focus"]) == 0
        arrays = {
            key: torch.as_tensor(np.asarray(value)[None] if single else np.asarray(value))
            for key, value in observation.items()
        }
        device = next(self.parameters()).device
        self.require(max_sites=arrays["element"].shape[1])
        store = SkeletonStore(
            {
                "n_sites": (arrays["element"] >= 0).sum(1),
                "frac_coords": arrays["frac_coords"],
                "parameters": arrays["lattice"],
                "edges": arrays["edges"],
            },
            device,
        )
        batch = store.batch()
        elements = batch.flat(arrays["element"].to(device, torch.int64))
        focus = arrays["focus"].to(device, torch.int64)
        was_training = self.training
        self.eval()
        probabilities = self(batch, elements[None], focus[None])[0].softmax(-1).cpu().numpy()
        self.train(was_training)
        return probabilities[0] if single else probabilities

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """The most probable action in a state of the environment: int64, a scalar or (B,)."""
        return self.probabilities(observation).argmax(-1)

    def fill(
        self,
        crystal: "Structure | Skeleton | str | Path",
        *,
        traversal: int | Sequence[int] = 0,
        elements: Iterable[str | int] | None = None,
        mask: "str | Mask" = "none",
        samples: int | None = None,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> "list[FilledStructure]":
        """Fill a crystal of your own, most probable filling first.

        Args:
            crystal: a pymatgen ``Structure`` whose elements are ignored, a ``Skeleton``, or the
                path of a CIF. Sites keep their numbers; networks that are told the numbers expect
                them as in the crystals of their training (Perov-5: A, B, X, X, X).
            traversal: the site to begin at, from which the others follow breadth first; or all
                sites in the order of filling.
            elements: those that may be chosen (default: the policy's vocabulary).
            mask: a name of ``crystal_gym.masks.MASKS``, or a function of ``(table, state)`` as the
                environment takes it; where ``elements`` are given, they are the vocabulary of its
                table.
            samples: how many fillings to draw; equal ones come once, with their count. Without a
                number there is one, by the most probable choice at each site.
            temperature: of the drawing: above 1 more varied, below 1 closer to the most probable.
            seed: of the drawing.

        Returns:
            Structures with their log-probabilities; see ``crystal_agents.rollouts.complete_structure.FilledStructure``.

        Raises:
            BadCrystalError: the crystal is no skeleton: disordered, overlapping sites, …
            DamagedFileError: the CIF cannot be read.
            CrystalGymError: bad input; the message says what.
        """
        from crystal_agents.rollouts.complete_structure import complete_structure

        return complete_structure(
            self,
            crystal,
            traversal=traversal,
            elements=elements,
            mask=mask,
            samples=samples,
            temperature=temperature,
            seed=seed,
        )

    def require(
        self, vocabulary: Vocabulary | None = None, max_sites: int | None = None
    ) -> "SkeletonPolicy":
        """This policy, if it fits a vocabulary and a number of sites.

        Raises:
            CrystalGymError: it does not.
        """
        if vocabulary is not None and vocabulary != self.vocabulary:
            raise CrystalGymError(
                f"The policy chooses from {len(self.vocabulary)} elements "
                f"({' '.join(self.vocabulary.symbols)}), the crystals from {len(vocabulary)} "
                f"({' '.join(vocabulary.symbols)}). Give the environment or collection the "
                "policy's vocabulary, or train a policy for this one."
            )
        if max_sites is not None and self.needs_focus and max_sites > self.config.max_sites:
            raise CrystalGymError(
                f"The network {self.config.network!r} was made for cells of up to "
                f"{self.config.max_sites} sites; these have up to {max_sites}."
            )
        return self

    def save(self, folder: str | Path) -> Path:
        """Write ``policy.safetensors`` and ``policy.json`` into a folder.

        Raises:
            StorageError: the folder cannot be written.
        """
        folder = Path(folder)
        with atomic_write(folder / WEIGHTS_FILE) as beside:
            save_file({key: value.contiguous() for key, value in self.state_dict().items()}, beside)
        with atomic_write(folder / CONFIG_FILE) as beside:
            beside.write_text(json.dumps(asdict(self.config), indent=2) + "\n")
        return folder


def load_policy(name_or_path: str | Path, device: torch.device | str = "cpu") -> SkeletonPolicy:
    """A trained policy, ready for evaluation.

    Args:
        source: a name of ``crystal_agents.pretrained_policies()``, such as ``goldschmidt/egnn``, or a
            folder that ``SkeletonPolicy.save`` wrote. Names go first, so that they mean the same
            everywhere; a folder of such a name is reached by ``./goldschmidt/egnn``.
        device: where its weights go.

    Raises:
        UnknownNameError: neither such a name nor a folder.
        MissingDataError: there is no policy in the folder.
        DamagedFileError: a file is damaged, or the weights are of another network or vocabulary.
    """
    if isinstance(name_or_path, str) and name_or_path in pretrained_policies():
        folder = pretrained_folder(name_or_path)
    else:
        folder = Path(name_or_path).expanduser()
        if not folder.is_dir():
            raise UnknownNameError(
                "policy (nor is it a folder)", str(name_or_path), pretrained_policies()
            )
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    for file in (config_file, weights_file):
        if not file.is_file():
            raise MissingDataError(
                f"There is no policy in {folder}: {file.name} is missing. "
                "Train one with `crystal-gym train`."
            )
    try:
        raw = json.loads(config_file.read_text())
        config = PolicyConfig(**{**raw, "symbols": tuple(raw["symbols"])})
        policy = SkeletonPolicy(config)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise DamagedFileError(f"{config_file} is damaged: {error}") from error
    try:
        policy.load_state_dict(load_file(weights_file, device="cpu"))
    except SafetensorError as error:
        raise DamagedFileError(f"{weights_file} is damaged: {error}.") from error
    except RuntimeError as error:
        raise DamagedFileError(
            f"{weights_file} holds the weights of another network or vocabulary than "
            f"{config_file} describes ({config.network}, {len(config.symbols)} elements): "
            f"{str(error).splitlines()[-1].strip()}"
        ) from error
    return policy.to(device).eval()


class PolicyScorer:
    """Logits of a policy; the geometry of a group's skeletons is read once for its K fillings.

    Args:
        policy: whose vocabulary is the table's.
        table: the crystals.
    """

    def __init__(self, policy: SkeletonPolicy, table: EpisodeTable) -> None:
        self.policy = policy.require(table.vocabulary, table.blank.shape[1]).eval()
        self.device = next(policy.parameters()).device
        self.store = SkeletonStore(
            {
                "n_sites": table.n_sites,
                "frac_coords": table.frac_coords,
                "parameters": table.lattice,
                "edges": table.edges,
            },
            self.device,
        )

    @torch.no_grad()
    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Logits (B, V) in a group's states; the first S of the B rows name its crystals."""
        rows = torch.as_tensor(crystals_of(state), device=self.device)
        batch = self.store.batch(rows)
        codes = torch.as_tensor(state.elements, dtype=torch.int64, device=self.device)
        elements = batch.flat(codes.view(-1, len(rows), codes.shape[-1]))
        focus = torch.as_tensor(state.focus, device=self.device).view(-1, len(rows))
        return self.policy(batch, elements, focus).flatten(0, 1).float().cpu().numpy()
