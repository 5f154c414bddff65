"""The single environment."""

import operator
from typing import TYPE_CHECKING, Any, Unpack

import gymnasium as gym
import numpy as np

from crystal_gym.envs.generator import InstanceGenerator, InstanceKeywords
from crystal_gym.envs.setup import SkeletonEnvSetup
from crystal_gym.episode import EpisodeState, as_batch, fill, observe, start
from crystal_gym.errors import InvalidActionError, ResetNeededError
from crystal_gym.masks import MaskLike
from crystal_gym.rewards import finish

if TYPE_CHECKING:
    from crystal_gym.envs.rendering import Window
    from crystal_gym.rewards.registry import RewardLike


class CrystalSkeletonEnv(SkeletonEnvSetup, gym.Env[dict[str, Any], int | np.int64]):
    """An environment for filling a crystal skeleton with elements, one site at a time.

    ## Description

    A *crystal skeleton* is a unit cell whose sites are known and whose elements are not. The agent
    visits the sites in a given order and assigns an element to each, as in "Behavioral Cloning for
    Crystal Design" (Govindarajan et al., 2023). Skeletons are taken from real or computed crystals.
    The agent observes the geometry and its own assignments, but not the elements of that crystal;
    a reward may depend on them.

    ## Action Space

    `Discrete(V)`: the element to assign to the site in focus, as an index into the vocabulary.
    `info["action_mask"]` (int8, for `env.action_space.sample(mask)`) and `action_masks()` (bool,
    for sb3-contrib) mark the elements that the mask allows. The environment does not enforce the
    mask. `expert_action()` returns the index of the true element of the site in focus.

    ## Observation Space

    A `Dict` of fixed size, with room for N sites and E edges:

    | Key           | Shape, type    | Values                                             |
    |---------------|----------------|----------------------------------------------------|
    | `element`     | (N,) int32     | -1 padding, 0 empty, a + 1 after action a          |
    | `frac_coords` | (N, 3) float32 | fractional coordinates in [0, 1]; 0 on padding     |
    | `lattice`     | (6,) float32   | lengths a, b, c in Å; angles α, β, γ in degrees    |
    | `edges`       | (E, 5) int32   | source, target, its image (i, j, k); -1 on padding |
    | `focus`       | () int64       | site to fill next; at the end, the one filled last |
    | `target`      | (T,) float32   | requested labels; only with the argument `target`  |

    `crystal_gym.envs.flat_observation.FlatObservation` turns an observation into one float32 `Box`.

    ## Rewards

    A reward is given by name, as a mapping, as a function, or as a `crystal_gym.rewards.Reward`.
    The names are:

    - `match` (default): 1/n for each of the n sites to fill that gets its true element. The return
      is the accuracy of the paper.
    - `validity`: 1 at the end if the composition is valid by SMACT (the measure of the paper),
      else 0. `validity-strict` also rejects single elements and compositions of metals alone;
      `validity-icsd24` uses another set of oxidation states. `env.unwrapped.reward.definition` has
      the rule and the version of SMACT.
    - `formation-energy`: minus the formation energy of the crystal in eV/atom, at the end, by the
      potential CHGNet (extra `energy`) or another ASE calculator.
    - `perov5-dft`: minus the DFT energy of the crystal, strained to the lattice of the skeleton, in
      eV/atom, at the end; for collection `perov-5`.
    - `perov5-gap`: similarity of the DFT band gap to a target, from 0 to 1, at the end; for
      collection `perov-5`.
    - `perov5-water-splitting`: 1 at the end for a crystal that meets published criteria for solar
      water splitting, else 0; `perov5-water-splitting-shaped` also rewards crystals that nearly do;
      for collection `perov-5`.
    - `perov5-photocorrosion-shield`, `perov5-photocorrosion-shield-shaped`: the same for
      transparent shields against photocorrosion.
    - `novelty`: 1/√n at the end for the n-th finished crystal of a composition.
    - `diversity-filter`: another reward, with a floor for crystals that were found often:
      `{"diversity-filter": {"reward": "formation-energy", "limit": 10, "floor": 0}}`.
    - `target`: minus the distance between the labels of the finished crystal and the target, in
      standard deviations, at the end; for the argument `target` and collection `perov-5`.

    A mapping sets weights or parameters: `{"match": 1, "validity-strict": 0.5}` is a weighted sum,
    `{"perov5-gap": {"target": 1.5}}` sets the target, and
    `{"match": 1, "perov5-gap": {"weight": 0.5, "target": 1.5}}` does both. A function maps the
    finished pymatgen `Structure` to the reward at the end.

    `novelty` and `diversity-filter` count the crystals of all episodes since the environment was
    made or reset with a seed. All environments of a vector share the counts.

    ## Starting State

    All sites are empty, or with `start="partial"`, some are kept: they have their true elements
    from the start, as in doping and substitution. `keep=0.5` keeps this fraction of the sites,
    drawn for each episode, and `keep=[0, 3]` these sites. The crystal is drawn from the split, and
    the start site, where the traversal begins, from the sites to fill.

    With `target=["dir_gap"]`, observations contain the requested value of this label of the
    collection: that of the crystal itself, with `target_from="split"` that of another crystal drawn
    from the split, and with `target={"dir_gap": 1.5}` the same in every episode.

    `reset(options={"crystal": …, "start_site": …, "keep": …, "target": …})` fixes them: the crystal
    by its id (str) or row (int), from any split; the start site by its number; the kept sites by
    their numbers; and the target by its values.

    ## Episode End

    The episode terminates when all sites are filled, after one step for each site to fill. It is
    truncated only if `max_episode_steps` is given to `gymnasium.make` or `gymnasium.make_vec`. A
    truncated episode has no reward at the end: only complete crystals have one. In its last info,
    the entries of the kind "end" are -1. If the last site is filled in the step that reaches the
    limit, the episode is both terminated and truncated, as with every environment of Gymnasium.

    ## Arguments

    All arguments can be given as JSON values, so that the environment can be remade from its spec.

    | Argument            | Default           | Meaning                                            |
    |---------------------|-------------------|----------------------------------------------------|
    | `collection`        | `"goldschmidt"`   | name, path(s), structures or a `CrystalCollection` |
    | `split`             | `"train"`         | `train`, `val`, `test` or `all`                    |
    | `split_by`          | `"origin"`        | or `composition`, `prototype`, `random:7`, a file  |
    | `vocabulary`        | `None`            | element symbols; `None`: all in the collection     |
    | `traversal`         | `"breadth-first"` | or `index`, or `random`                            |
    | `start_site`        | `None`            | first site of every episode; `None`: drawn         |
    | `max_sites`         | `None`            | N; `None`: the largest cell in the collection      |
    | `start`             | `"empty"`         | or `partial`: the kept sites are filled            |
    | `keep`              | `None`            | fraction (0.5) or site numbers of a partial start  |
    | `target`            | `None`            | names of labels, or a mapping to fixed values      |
    | `target_from`       | `"own"`           | or `split`: origin of drawn targets                |
    | `on_error`          | `"raise"`         | or `skip`: leave out crystals that cannot be read  |
    | `collection_sha256` | `None`            | expected fingerprint of the collection             |
    | `reward`            | `"match"`         | name, mapping, function, or `Reward`; see Rewards  |
    | `mask`              | `"none"`          | name, mapping or function of (table, state)        |
    | `render_mode`       | `None`            | `ansi`, `rgb_array` or `human`                     |

    A `generator` (`crystal_gym.envs.generator.InstanceGenerator`) can replace the first
    thirteen.

    The mask `charge-neutral` allows the elements from which a composition that is valid under the
    rule `strict` can be reached; `{"charge-neutral": {"states": "common"}}` does so with the common
    oxidation states of pymatgen, which are fewer. `composition` allows the elements that the
    crystal still has to place, so that only their assignment to sites is open.

    ## Info

    The entries are the same in every step. Those of the kind "end" are -1 before the end.

    | Key                | Shape, type  | When   | Meaning                                         |
    |--------------------|--------------|--------|-------------------------------------------------|
    | `action_mask`      | (V,) int8    | always | 1 for each element that the mask allows         |
    | `crystal`          | () int64     | always | row of the crystal in the collection            |
    | `start_site`       | () int64     | always | first site of the episode                       |
    | `match`            | () float64   | end    | fraction of filled sites with the true element  |
    | `validity`         | () float64   | end    | `validity…`: 1 if valid, else 0                 |
    | `formation_energy` | () float64   | end    | `formation-energy`: eV/atom or NaN              |
    | `heat`             | () float64   | end    | `perov5-dft`: heat of formation, eV/atom or NaN |
    | `strain`           | () float64   | end    | `perov5-dft`: strain energy, eV/atom or NaN     |
    | `gap`              | () float64   | end    | `perov5-gap`: band gap, eV or NaN               |
    | `criteria_met`     | () float64   | end    | `perov5-water…`, `perov5-photo…`: 1, 0 or NaN   |
    | `distance`         | () float64   | end    | `target`: minus the reward, or NaN              |
    | `count`            | () float64   | end    | `novelty`, `diversity-…`: crystals counted, n   |
    | `unfiltered`       | () float64   | end    | `diversity-filter`: the reward at the end       |
    | `labeled`          | () float64   | end    | `perov5-…`, `target`: 1 if labels known, else 0 |
    | `regret`           | () float64   | end    | `perov5-…`: best known reward minus this one    |
    | `score`            | () float64   | end    | function: its value                             |
    | `failed`           | () float64   | end    | function, energy: 1 if NaN or infinite, else 0  |
    | `failures`         | () float64   | end    | function, energy: number of failures so far     |

    In a weighted sum, each key of a reward is prefixed with the name of the reward, as in
    `perov5-dft/regret`.

    ## Vectorized environment

    `gymnasium.make_vec("CrystalSkeleton-v0", num_envs=1024)` makes the native
    `CrystalSkeletonVectorEnv`, which is many times faster than a vector of single environments.

    ## Version History

    - v0: Initial version.
    """

    metadata = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 2}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        *,
        generator: InstanceGenerator | None = None,
        reward: "RewardLike" = "match",
        mask: MaskLike = "none",
        render_mode: str | None = None,
        **instances: Unpack[InstanceKeywords],
    ) -> None:
        self.observation_space, self.action_space = self._set_up(
            generator, instances, reward, mask, render_mode
        )
        self._window: Window | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seed of the random number generator (default: it continues). A reward that
                depends on earlier episodes is reset with a seed.
            options: ``crystal`` and ``start_site``, see Starting State.

        Returns:
            The observation and the info.

        Raises:
            CrystalGymError: If an option is invalid, or a crystal or a site does not exist.
        """
        super().reset(seed=seed)
        self._forget_episodes(seed)
        self._state = start(self.table, *self.generator.draw(self.np_random, options=options))
        self._crystal, self._start_site = np.int64(self._state.crystal), self._state.start_site
        if self.render_mode == "human":
            self.render()
        return observe(self.table, self._state), self._info(self._state)

    def step(
        self, action: int | np.int64
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Assign an element to the site in focus.

        Args:
            action: Index of the element in the vocabulary, from 0 to V - 1.

        Returns:
            The observation, the reward, whether the episode terminated, ``False`` (only the
            wrapper ``TimeLimit`` truncates), and the info.

        Raises:
            InvalidActionError: If the action is not an integer from 0 to V - 1.
            ResetNeededError: If no episode has been started or the episode is over.
        """
        state = self._current_state()
        if state.step == state.n_sites:
            raise ResetNeededError("The episode is over: all sites are filled. Call reset().")
        choice = self._validate_action(action)
        reward = float(self.reward.on_fill(self.table, state, choice + 1))
        full = bool(fill(state, choice))  # type: ignore[arg-type] - a scalar state takes an int
        info = self._info(state)
        if full:
            last, components = finish(self.reward, self.table, as_batch(state))
            reward += float(last[0])
            info.update({name: np.float64(values[0]) for name, values in components.items()})
        if self.render_mode == "human":
            self.render()
        return observe(self.table, state), reward, full, False, info

    def action_masks(self) -> np.ndarray:
        """Return the elements that the mask allows on the site in focus, bool (V,).

        Raises:
            ResetNeededError: If no episode has been started.
        """
        return self.mask(self.table, self._current_state())

    def expert_action(self) -> int:
        """Return the action that assigns the true element to the site in focus.

        Raises:
            ResetNeededError: If no episode has been started.
        """
        state = self._current_state()
        return int(self.table.true_elements[state.crystal, state.focus]) - 1

    def render(self) -> Any:
        """Render the crystal in the render mode of the environment.

        Returns:
            Text (``ansi``), an image, uint8 (height, width, 3) (``rgb_array``), or ``None``
            (``human``, which shows a window).

        Raises:
            ResetNeededError: If no episode has been started.
        """
        scenes = self._scenes()
        if scenes is None:
            return None
        if self.render_mode != "human":
            return self._frame(scenes[0])
        if self._window is None:
            from crystal_gym.envs.rendering import Window

            self._window = Window()
        self._window.show(scenes[0], 1 / self.metadata["render_fps"])
        return None

    def close(self) -> None:
        """Close the window if one is open."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _validate_action(self, action: Any) -> int:
        try:
            choice = operator.index(action)
        except TypeError as error:
            raise self._invalid_action(action) from error
        if not 0 <= choice < self.table.n_elements:
            raise self._invalid_action(action)
        return choice

    def _invalid_action(self, action: Any) -> InvalidActionError:
        last = self.table.n_elements - 1
        return InvalidActionError(
            f"Expected action to be an integer from 0 to {last}, got {action!r}."
        )

    def _info(self, state: EpisodeState) -> dict[str, Any]:
        return {
            "action_mask": self.mask(self.table, state).view(np.int8),
            "crystal": self._crystal,
            "start_site": self._start_site,
            **self._undefined,
        }
