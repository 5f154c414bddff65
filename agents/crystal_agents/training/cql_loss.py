"""The loss of discrete CQL on the logits of a policy, implemented by torchrl."""

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
        skeletons: The skeletons; ``skeleton`` in the batches is their row.
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
    """A network that computes Q-values of K states of each of S skeletons from tensors.

    Args:
        policy: The policy whose logits are the Q-values.
        skeletons: The skeletons by row.

    Shapes:
        - **input:** rows of the skeletons (K, S), equal along K; codes (K, S, N); focus (K, S)
        - **output:** Q-values (K, S, V)
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
    """The state of the target network of a loss, for checkpoints.

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
