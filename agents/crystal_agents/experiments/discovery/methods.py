"""Methods of the discovery task by name, each with and without the rule of common states."""

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crystal_agents.experiments.discovery.task import Search
from crystal_gym.errors import UnknownNameError

# The action mask of the methods whose name ends in "-common".
RULE = "charge-neutral-common"


@dataclass(frozen=True)
class Method:
    """A method of the discovery task, one row of the table.

    Attributes:
        title: Label of the row.
        module: Module of the method in this package, imported when the method runs.
        function: Name of the function in the module, which receives a ``Search`` and settings.
        settings: Name of the class of its settings, "" for none.
        options: Settings that differ from the defaults of this class.
        mask: Action mask that every proposed crystal respects.
        needs: Package that must be installed, if it belongs to an extra.
    """

    title: str
    module: str
    function: str
    settings: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    mask: str = "none"
    needs: str = ""

    def run(self, search: Search) -> None:
        """Propose crystals until all targets are found or the budget is spent."""
        module = importlib.import_module(f"{__package__}.{self.module}")
        function: Callable[..., None] = getattr(module, self.function)
        if not self.settings:
            function(search)
            return
        function(search, getattr(module, self.settings)(**dict(self.options)))

    def settings_used(self) -> dict[str, Any]:
        """Return the settings of a run, for its record."""
        if not self.settings:
            return {}
        module = importlib.import_module(f"{__package__}.{self.module}")
        return dataclasses.asdict(getattr(module, self.settings)(**dict(self.options)))


def get_method(name: str) -> Method:
    """Return a method by its name.

    Raises:
        UnknownNameError: If there is no such method.
    """
    if name not in METHODS:
        raise UnknownNameError("discovery method", name, METHODS)
    return METHODS[name]


_PPO = ("policy_gradient", "policy_gradient_search", "PolicyGradientSettings")
# Crystals can be filled repeatedly, and without a rule fillings can be outside the grid.
_NOT_ONLY_NEW = (("only_new", False), ("max_steps", 20_000))
_WARM = (("policy", "perov-5/egnn"), ("max_steps", 20_000))
_DQN = ("bootstrapped_dqn", "bootstrapped_dqn_search", "BootstrappedDQNSettings")
_WITHOUT_RULE: dict[str, Method] = {
    "random": Method("random search", "random_search", "random_search"),
    "genetic": Method(
        "genetic algorithm", "genetic", "genetic_search", "GeneticSettings", needs="pymoo"
    ),
    "extra-trees": Method(
        "extra-trees, upper confidence bound",
        "extra_trees",
        "extra_trees_search",
        "ExtraTreesSettings",
        needs="sklearn",
    ),
    "label-ensemble": Method(
        "networks on labels, probability of a target",
        "label_ensemble",
        "label_ensemble_search",
        "LabelEnsembleSettings",
    ),
    "bootstrapped-dqn": Method("bootstrapped Q-learning", *_DQN),
    "bootstrapped-dqn-labels": Method(
        "bootstrapped Q-learning, returns from labels", *_DQN, (("from_labels", True),)
    ),
    "offline-dqn": Method(
        "bootstrapped Q-learning from a Minari dataset",
        "offline_dqn",
        "offline_dqn_search",
        "OfflineDQNSettings",
    ),
    "ppo": Method("PPO", *_PPO, _NOT_ONLY_NEW),
    "ppo-warm": Method("PPO, warm start", *_PPO, (*_NOT_ONLY_NEW, *_WARM)),
    "maskable-ppo": Method("MaskablePPO, only new crystals", *_PPO),
    "maskable-ppo-warm": Method("MaskablePPO, only new crystals, warm start", *_PPO, _WARM),
    "self-imitation": Method(
        "self-imitation (best-episode replay)",
        "self_imitation",
        "self_imitation_search",
        "SelfImitationSettings",
    ),
}

METHODS: dict[str, Method] = {
    **_WITHOUT_RULE,
    **{
        f"{name}-common": dataclasses.replace(
            method, title=f"{method.title}, common states", mask=RULE
        )
        for name, method in _WITHOUT_RULE.items()
    },
}
