"""The loss of discrete CQL on the logits of a policy, from torchrl."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from crystal_agents.networks.graph_batch import SkeletonStore
from crystal_agents.policies.policy import SkeletonPolicy

if TYPE_CHECKING:
    from torchrl.objectives import DiscreteCQLLoss

# Keys of a state in a batch, in the order of the network's arguments.
_STATE_KEYS = ("skeleton", "element", "focus")


def make_cql_loss(
    policy: SkeletonPolicy, skeletons: SkeletonStore, gamma: float
) -> "DiscreteCQLLoss":
    """Return torchrl's loss on the logits of a policy, with a target network.

    Args:
        policy: The policy, whose logits become Q-values; the loss shares its weights.
        skeletons: The skeletons to which ``skeleton`` in the batches refers.
        gamma: Discount factor.

    Raises:
        ModuleNotFoundError: If torchrl is not installed.
    """
    from torchrl.modules import QValueActor
    from torchrl.objectives import DiscreteCQLLoss
    from torchrl.objectives.utils import ValueEstimators

    network = _ValueNetwork(policy, skeletons)
    actor = QValueActor(network, in_keys=list(_STATE_KEYS), action_space="categorical")
    loss = DiscreteCQLLoss(actor, action_space="categorical", delay_value=True)
    # The estimator copies the network in its current mode, which must be without dropout.
    policy.eval()
    loss.make_value_estimator(ValueEstimators.TD0, gamma=gamma)
    policy.train()
    return loss


class _ValueNetwork(nn.Module):
    """Q-values of K states of each of S skeletons, with tensors as arguments.

    Args:
        policy: The policy whose logits are the Q-values.
        skeletons: The skeletons by row.

    Shapes:
        - skeleton: rows of the skeletons, equal along K, (K, S).
        - element: codes, (K, S, N).
        - focus: (K, S).
        - output: (K, S, V).
    """

    def __init__(self, policy: SkeletonPolicy, skeletons: SkeletonStore) -> None:
        super().__init__()
        self.policy = policy
        self.skeletons = skeletons

    def forward(self, skeleton: Tensor, element: Tensor, focus: Tensor) -> Tensor:
        """Return the Q-values of all elements at the focus."""
        batch = self.skeletons.batch(skeleton[0])
        return self.policy(batch, batch.flat(element), focus).float()


class TargetState:
    """The weights of a loss's target network as a part of checkpoints.

    Args:
        loss: The loss with the target network.
    """

    def __init__(self, loss: "DiscreteCQLLoss") -> None:
        self._loss = loss

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name."""
        flat = self._loss.target_value_network_params.flatten_keys(".")
        return {str(key): value.data for key, value in flat.items()}

    def load_state_dict(self, state_dict: dict[str, Tensor], /) -> None:
        """Replace the weights."""
        for name, value in self.state_dict().items():
            value.copy_(state_dict[name])
