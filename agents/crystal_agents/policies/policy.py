"""The policy: a network with a vocabulary, saved and loaded without pickle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crystal_agents.networks.egnn_indexed import EGNNIndexed
from crystal_agents.networks.geometry_cache import GeometryCache
from crystal_agents.networks.graph_batch import SkeletonBatch, SkeletonStore
from crystal_agents.networks.registry import make_encoder
from crystal_agents.policies.config import PolicyConfig, read_config
from crystal_agents.policies.pretrained import pretrained_folder, pretrained_policies
from crystal_agents.policies.site_numbers import SitePositions
from crystal_agents.policies.targets import EpisodeTargets, PolicyTargets, TargetValues
from crystal_agents.rollouts.complete_structure import FilledStructure, complete_structures
from crystal_agents.rollouts.filling_options import FillingKeywords, FillingOptions
from crystal_agents.rollouts.rollout import crystals_of
from crystal_gym.crystals.elements import Vocabulary
from crystal_gym.episode import EpisodeState, EpisodeTable
from crystal_gym.errors import CrystalGymError, DamagedFileError, MissingDataError, UnknownNameError
from crystal_gym.utils.files import atomic_write

CONFIG_FILE = "policy.json"
WEIGHTS_FILE = "policy.safetensors"


class SkeletonPolicy(nn.Module):
    """An encoder and a readout that map states of skeletons to logits over the vocabulary.

    Behavioral cloning, evaluation and online RL use the same module.

    Args:
        config: The network and its vocabulary.

    Attributes:
        config: The configuration.
        vocabulary: The V elements of the action space.
        targets: The T labels that can be requested; ``None``: the policy is unconditional.
        encoder: Maps fillings to embeddings of the sites.
        readout: Maps embeddings of the sites to logits.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = config.vocabulary
        n_elements = len(config.symbols)
        self.targets = PolicyTargets.from_record(config.targets) if config.targets else None
        settings = dict(config.settings)
        if self.targets is not None:
            settings["n_targets"] = len(self.targets.names)
        self.encoder = make_encoder(config.network, n_elements, settings)
        self.readout = self.encoder.make_readout(n_elements, config.max_sites)
        record = config.site_positions
        self._positions = SitePositions.from_record(record) if record else None

    @property
    def site_positions(self) -> SitePositions | None:
        """The positions by which site numbers are checked.

        ``None`` if the network receives no site numbers, or if its training crystals do not
        determine them.
        """
        is_indexed = self.needs_focus or isinstance(self.encoder, EGNNIndexed)
        return self._positions if is_indexed else None

    @property
    def needs_focus(self) -> bool:
        """Whether the network encodes the index of the focus, which limits the number of sites."""
        return self.readout.needs_focus

    def forward(
        self,
        batch: SkeletonBatch,
        elements: Tensor,
        focus: Tensor | None = None,
        geometry: Any = None,
        target: Tensor | None = None,
        *,
        guidance: float = 0.0,
    ) -> Tensor:
        """Compute the logits over the vocabulary in K states of each of S skeletons.

        Args:
            batch: The skeletons, with s sites in total.
            elements: Codes of the K fillings, int64 (K, s): 0 for an empty site, 1 to V for an
                element.
            focus: Site in focus, as its index within the skeleton, int64 (K, S). If omitted, the
                logits of all sites are computed, which requires a network without ``needs_focus``.
            geometry: Result of the encoder's ``geometry`` for the batch (default: it is computed).
            target: Requested labels, standardized, (S, T) or (K, S, T); NaN where a label is not
                requested (default: none is).
            guidance: Strength w of the guidance by the target (Ho & Salimans, 2022): the logits are
                (1 + w) conditional - w unconditional logits.

        Returns:
            Logits, (K, S, V), or (K, s, V) without a focus.

        Raises:
            CrystalGymError: If a required focus is omitted, or the network is unconditional.
        """
        if target is not None:
            geometry = self.encoder.geometry(batch) if geometry is None else geometry
            logits = self(batch, elements, focus, self.encoder.condition(batch, geometry, target))
            if not guidance:
                return logits
            return (1 + guidance) * logits - guidance * self(batch, elements, focus, geometry)
        if focus is not None and not self.needs_focus:
            sites = batch.flat_focus(focus)
            return self.readout.every_site(self.encoder.at_sites(batch, elements, sites, geometry))
        embedding = self.encoder(batch, elements, geometry)
        if focus is None:
            return self.readout.every_site(embedding)
        return self.readout(batch, embedding, focus)

    def geometry(self, batch: SkeletonBatch) -> Any:
        """Return what the encoder computes from the empty skeletons alone, for ``forward``.

        Args:
            batch: The skeletons.
        """
        return self.encoder.geometry(batch)

    @torch.no_grad()
    def probabilities(
        self, observation: Mapping[str, np.ndarray], guidance: float = 0.0
    ) -> np.ndarray:
        """Compute the probabilities of the elements in a state of the environment.

        Args:
            observation: One observation of ``CrystalSkeleton-v0``, or a batch of B. A conditional
                policy uses its ``target``, which has the values of ``targets.names``.
            guidance: Strength of the guidance by the target, see ``forward``.

        Returns:
            Probabilities, float32 (V,) or (B, V).

        Raises:
            BadCrystalError: If the network receives site numbers, and the sites are not numbered as
                in the training crystals. Sites that differ only along free axes are not compared,
                see ``SitePositions``.
            CrystalGymError: If the observation has more sites than the network allows.
        """
        single = np.ndim(observation["focus"]) == 0
        arrays = {
            key: torch.as_tensor(np.asarray(value)[None] if single else np.asarray(value))
            for key, value in observation.items()
        }
        device = next(self.parameters()).device
        self.require(max_sites=arrays["element"].shape[1])
        n_sites = (arrays["element"] >= 0).sum(1)
        if self.site_positions is not None:
            self.site_positions.check(
                n_sites.numpy(), arrays["frac_coords"].numpy(), free_axes=False
            )
        geometry = (arrays[key] for key in ("frac_coords", "lattice", "edges"))
        batch = SkeletonStore.from_cells(n_sites, *geometry, device=device).batch()
        elements = batch.flat(arrays["element"].to(device, torch.int64))
        focus = arrays["focus"].to(device, torch.int64)
        was_training = self.training
        self.eval()
        target = None if self.targets is None else self.targets.observed(observation, focus)
        logits = self(batch, elements[None], focus[None], target=target, guidance=guidance)
        probabilities = logits[0].softmax(-1).cpu().numpy()
        self.train(was_training)
        return probabilities[0] if single else probabilities

    def act(self, observation: Mapping[str, np.ndarray], guidance: float = 0.0) -> np.ndarray:
        """Return the most probable action in a state of the environment.

        Args:
            observation: One observation of ``CrystalSkeleton-v0``, or a batch of B.
            guidance: Strength of the guidance by the target.

        Returns:
            Indices of elements, int64, a scalar or (B,).
        """
        return self.probabilities(observation, guidance).argmax(-1)

    def fill(
        self,
        crystal: Any,
        *,
        target: TargetValues | None = None,
        guidance: float = 0.0,
        **options: Unpack[FillingKeywords],
    ) -> list[FilledStructure]:
        """Fill the skeleton of a structure and return the fillings, the most probable first.

        Networks that receive site numbers number the sites by their positions, as in the training
        crystals, see ``SitePositions``. All arguments and results have the order of the input.

        Args:
            crystal: A ``Skeleton``, or a crystal, of whose elements only those of kept sites are
                used: the path of a CIF, POSCAR, extended XYZ or JSON file, also gzipped; a pymatgen
                ``Structure`` or its dictionary; ``ase.Atoms``; or a Materials Project document.
                Sites that are not kept can have dummy species.
            target: Requested labels of a conditional policy by name, such as
                ``{"heat_all": -0.2}``.
            guidance: Strength of the guidance by the target, see ``forward``.
            **options: See ``FillingKeywords``.

        Returns:
            The distinct fillings with their probabilities.

        Raises:
            BadCrystalError: If the structure has no valid skeleton, such as one with disordered or
                overlapping sites, or its positions do not determine the site numbers that the
                network receives.
            DamagedFileError: If the file cannot be read.
            CrystalGymError: If another argument is invalid, a kept site has no element of the
                vocabulary, or the mask allows no element.

        Warns:
            ParserWarning: If reading the file changed the crystal, such as by merging sites.
        """
        return self.fill_all([crystal], target=target, guidance=guidance, **options)[0]

    def fill_all(
        self,
        crystals: Sequence[Any],
        *,
        target: TargetValues | None = None,
        guidance: float = 0.0,
        **options: Unpack[FillingKeywords],
    ) -> list[list[FilledStructure]]:
        """Fill the skeletons of many structures together, which is faster than one by one.

        All structures are read before the first one is filled. Samples depend on the list.

        Args:
            crystals: Crystals as in ``fill``.
            target: See ``fill``.
            guidance: See ``fill``.
            **options: See ``FillingKeywords``; the same for all crystals.

        Returns:
            The fillings of each crystal, as from ``fill``.

        Raises:
            CrystalGymError: As ``fill``; the message starts with the place in the list.
        """
        positions = self.site_positions
        return complete_structures(
            crystals,
            self.vocabulary,
            lambda table: PolicyScorer(self, table, target, guidance),
            FillingOptions(**options),
            number_sites=None if positions is None else positions.numbers,
        )

    def require(
        self, vocabulary: Vocabulary | None = None, max_sites: int | None = None
    ) -> "SkeletonPolicy":
        """Check that the policy can fill crystals, and return the policy.

        Args:
            vocabulary: The vocabulary of the crystals.
            max_sites: The number of sites of the largest cell.

        Raises:
            CrystalGymError: If the vocabulary differs, or if a cell has more sites than the network
                allows.
        """
        if vocabulary is not None and vocabulary != self.vocabulary:
            raise CrystalGymError(
                f"Expected the policy's vocabulary of {len(self.vocabulary)} elements "
                f"({' '.join(self.vocabulary.symbols)}), got {len(vocabulary)} elements "
                f"({' '.join(vocabulary.symbols)}). Give the environment or collection the "
                "policy's vocabulary, or train a policy for this vocabulary."
            )
        if max_sites is not None and self.needs_focus and max_sites > self.config.max_sites:
            raise CrystalGymError(
                f"Expected cells of up to {self.config.max_sites} sites, for which the network "
                f"{self.config.network!r} was made, got up to {max_sites}. Use a network that does "
                "not encode the index of the focus, such as egnn."
            )
        return self

    def save(self, folder: str | Path) -> Path:
        """Write ``policy.safetensors`` and ``policy.json`` to a folder, and return the folder.

        Args:
            folder: The folder; it is created if necessary.

        Raises:
            StorageError: If the folder cannot be written.
        """
        folder = Path(folder)
        weights = {key: value.contiguous() for key, value in self.state_dict().items()}
        with atomic_write(folder / WEIGHTS_FILE) as temporary:
            save_file(weights, temporary)
        self.config.write(folder / CONFIG_FILE)
        return folder


def load_policy(name_or_path: str | Path, device: torch.device | str = "cpu") -> SkeletonPolicy:
    """Load a trained policy in evaluation mode.

    Args:
        name_or_path: A name of ``crystal_agents.pretrained_policies()``, such as
            ``goldschmidt/egnn``, or a folder that ``SkeletonPolicy.save`` wrote. Names take
            precedence over folders, so that their meaning does not depend on the working directory;
            use ``./goldschmidt/egnn`` for a folder of that name.
        device: The device of the weights.

    Raises:
        UnknownNameError: If there is neither a policy nor a folder with this name.
        MissingDataError: If the folder has no policy.
        DamagedFileError: If a file is damaged or has the format of another version, or if the
            weights belong to another network or vocabulary.
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
                f"Expected a policy in {folder}, but {file.name} is missing. Train a policy with "
                "`crystal-gym train`."
            )
    config = read_config(config_file)
    try:
        policy = SkeletonPolicy(config)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DamagedFileError(f"{config_file} is damaged: {error}") from error
    try:
        policy.load_state_dict(load_file(weights_file, device="cpu"))
    except SafetensorError as error:
        raise DamagedFileError(f"{weights_file} is damaged: {error}.") from error
    except RuntimeError as error:
        raise DamagedFileError(
            f"Expected the weights of {config.network!r} with {len(config.symbols)} elements in "
            f"{weights_file}, as in {config_file.name}, got those of another network or "
            f"vocabulary: {str(error).splitlines()[-1].strip()}"
        ) from error
    return policy.to(device).eval()


class PolicyScorer:
    """A scorer that returns the logits of a policy.

    All fillings of a skeleton in a batch share one forward pass. The embeddings of the empty
    skeletons are computed once for all steps of a roll-out.

    Args:
        policy: The policy, with the vocabulary of the table; it is set to evaluation mode.
        table: The crystals.
        target: Requested labels of a conditional policy, see ``EpisodeTargets``.
        guidance: Strength of the guidance by the target, see ``SkeletonPolicy.forward``.

    Raises:
        BadCrystalError: If the network receives site numbers, and the sites of a crystal are not
            numbered as in the training crystals.
        CrystalGymError: If the policy and the table have different vocabularies, if a cell has more
            sites than the network allows, or if a target is invalid or the policy unconditional.
    """

    def __init__(
        self,
        policy: SkeletonPolicy,
        table: EpisodeTable,
        target: TargetValues | None = None,
        guidance: float = 0.0,
    ) -> None:
        self.policy = policy.require(table.vocabulary, table.max_sites).eval()
        if policy.site_positions is not None:
            policy.site_positions.check(table.n_sites, table.frac_coords)
        self.device = next(policy.parameters()).device
        self.store = SkeletonStore.from_cells(
            table.n_sites, table.frac_coords, table.lattice, table.edges, device=self.device
        )
        self.geometry_cache = GeometryCache(policy.encoder)
        self.targets = EpisodeTargets(policy.targets, table, target)
        self.guidance = guidance

    @torch.no_grad()
    def __call__(self, state: EpisodeState) -> np.ndarray:
        """Return the logits in a batch of K x S episodes, float32 (B, V)."""
        rows = crystals_of(state)
        selected = torch.as_tensor(rows, device=self.device)
        batch, geometry = self.geometry_cache(selected[:, None], lambda: self.store.batch(selected))
        codes = torch.as_tensor(state.elements, dtype=torch.int64, device=self.device)
        elements = batch.flat(codes.view(-1, len(rows), codes.shape[-1]))
        focus = torch.as_tensor(state.focus, device=self.device).view(-1, len(rows))
        target = self.targets(state, focus)
        logits = self.policy(batch, elements, focus, geometry, target, guidance=self.guidance)
        return logits.flatten(0, 1).float().cpu().numpy()
