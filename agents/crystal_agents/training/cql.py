"""Offline RL: discrete CQLConfig on the graph network, from the transitions of a behavior data set.

The logits of a ``SkeletonPolicy`` are read as Q-values here, so that what is learned is saved,
evaluated and used like any other policy: its most probable action is the one of highest value.
"""

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from crystal_agents.networks.graph_batch import SkeletonStore
from crystal_agents.policies.policy import PolicyConfig, SkeletonPolicy
from crystal_agents.training.checkpoint import Checkpoint
from crystal_agents.training.config import TrainingConfig, check_args
from crystal_agents.training.fabric import make_fabric
from crystal_agents.training.loop import (
    HISTORY_FILE,
    Progress,
    teacher_forced_accuracy,
    write_history,
)
from crystal_agents.training.optimizers import (
    base_learning_rates,
    learning_rate_factor,
    make_optimizers,
    set_learning_rates,
)
from crystal_agents.training.recipes import Recipe
from crystal_agents.training.seeding import derive_seed, make_generator
from crystal_agents.training.transition_batches import TransitionStore
from crystal_gym.errors import CrystalGymError
from crystal_gym.utils.progress import progress_bar

if TYPE_CHECKING:
    from tensordict import TensorDict
    from torchrl.objectives import DiscreteCQLLoss

    from crystal_datasets.transitions import Transitions

# What the network is told of a state.
_STATE = ("skeleton", "element", "focus")


@dataclass(frozen=True)
class CQLConfig:
    """Settings of conservative Q-learning (Kumar et al., 2020).

    Attributes:
        alpha: weight of the conservative term beside the temporal difference; large values approach
            behavioral cloning, 0 is Q-learning, which overrates what the data never show.
        gamma: discount; episodes are finite and short, so returns are undiscounted by default.
        tau: share of the network in its slowly following target at each step.
        unit_scale: bring the returns of the data to the scale from 0 to 1 before learning, see
            ``on_unit_scale``; without it, one ``alpha`` means something else for every reward.
    """

    alpha: float = 0.1
    gamma: float = 1.0
    tau: float = 0.01
    unit_scale: bool = True


def on_unit_scale(data: "Transitions") -> "Transitions":
    """The same transitions, with rewards such that returns are mostly from 0 to 1.

    Returns at the 1st and the 99th percentile become 0 and 1: a few extreme ones do not count. All
    rewards are divided by the range; the offset is part of an episode's last reward. Episodes of
    a skeleton are equally long, so that what is best stays best.

    TrainingConfig:
        data: transitions with finite rewards; where all returns are equal, these become 0.
    """
    low, high = np.percentile(data.returns, (1, 99))
    if low == high:
        low, high = data.returns.min(), data.returns.max()
    reward = data.reward.astype(np.float64)
    reward[data.done] -= low
    return dataclasses.replace(data, reward=(reward / ((high - low) or 1)).astype(np.float32))


def train_cql(
    args: TrainingConfig,
    settings: CQLConfig,
    data: "Transitions",
    validation: "Transitions | None" = None,
    *,
    progress: bool = True,
) -> SkeletonPolicy:
    """Learn Q-values from transitions; go on from the run's checkpoint if it has one.

    An interrupted run that is called again ends with the weights of an uninterrupted one.

    TrainingConfig:
        args: the run; of its recipe, what belongs to the network, the batches and the optimizer.
            It takes one process: ``devices`` is 1.
        settings: of the algorithm.
        data: transitions with rewards, of any behavior.
        validation: expert transitions, on which the share of states is told where the action of
            highest value is the expert's.
        progress: show a progress bar.

    Returns:
        The policy whose logits are Q-values, also saved in ``args.run``.

    Raises:
        CrystalGymError: settings that cannot be, rewards that are no numbers, or the run's
            checkpoint is of other settings or other data.
        DamagedFileError: the checkpoint is damaged.
        ModuleNotFoundError: torchrl is not installed.
        StorageError: the run's folder cannot be written.
    """
    recipe = args.recipe
    check_args(args, validation)
    _check(args, settings, data)
    if settings.unit_scale:
        data = on_unit_scale(data)
    fabric = make_fabric(args)
    torch.manual_seed(args.seed)
    max_sites = data.frac_coords.shape[1]
    config = PolicyConfig(recipe.network, data.vocabulary, max_sites, recipe.settings)
    policy = SkeletonPolicy(config).to(fabric.device)
    store = RewardedStore(data, fabric.device)
    loss_module = cql_loss(policy, store.skeletons, settings)
    from torchrl.objectives import SoftUpdate

    target = SoftUpdate(loss_module, tau=settings.tau)
    optimizers = make_optimizers(policy, recipe)
    highest = base_learning_rates(optimizers)
    held_out = None if validation is None else TransitionStore(validation, fabric.device)

    parts: dict[str, Any] = {"policy": policy, "target": TargetState(loss_module)}
    parts |= {f"optimizer {i}": optimizer for i, optimizer in enumerate(optimizers)}
    checkpoint = Checkpoint(args, fabric, parts, _fingerprint(args, settings, data))
    state = checkpoint.load()
    steps_per_epoch = len(store.epoch(recipe, make_generator(args.seed, 0)))
    last_step = recipe.epochs * steps_per_epoch

    with progress_bar(f"CQLConfig with {recipe.network}", last_step, shown=progress) as advance:
        advance(state.step)
        while state.step < last_step and not state.stopped:
            epoch, start = divmod(state.step, steps_per_epoch)
            for groups in store.epoch(recipe, make_generator(args.seed, epoch))[start:]:
                checkpoint.save_if_due(state)
                began = time.perf_counter()
                policy.train()
                rate = learning_rate_factor(recipe, state.step, last_step)
                set_learning_rates(optimizers, highest, rate)
                torch.manual_seed(derive_seed(args.seed, state.step))
                batch = store.batch(groups)
                with fabric.autocast():
                    losses = loss_module(batch)
                    loss = losses["loss_qvalue"] + settings.alpha * losses["loss_cql"]
                fabric.backward(loss)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                target.step()
                state.step += 1
                state.seconds += time.perf_counter() - began
                n = groups.numel()
                agreed = (batch["pred_val"].argmax(-1) == batch["action"]).sum().item()
                told = ("loss_qvalue", "loss_cql", "target_value")
                metrics = {name: n * losses[name].item() for name in told}
                state.add(n * loss.item(), agreed, n, n, **metrics)
                advance(1, f"epoch {epoch + 1}/{recipe.epochs}, loss {state.metrics()['loss']:.3f}")
            row = {
                "epoch": epoch + 1,
                "step": state.step,
                "learning_rate": rate * recipe.learning_rate,
            }
            row |= state.end_epoch()
            if held_out is not None and (
                (epoch + 1) % args.validate_every == 0 or state.step == last_step
            ):
                row["val_accuracy"] = teacher_forced_accuracy(policy, held_out)
                if args.patience:
                    state.keep_if_best(policy, row["val_accuracy"], args.patience)
            state.history.append(row)
            write_history(args.run / HISTORY_FILE, state.history)
    checkpoint.save(state)

    trained = SkeletonPolicy(dataclasses.replace(config, training=_record(args, settings, state)))
    trained.load_state_dict(state.best if args.patience else policy.state_dict())
    trained.save(args.run)
    return trained.eval()


def cql_loss(
    policy: SkeletonPolicy, skeletons: SkeletonStore, settings: CQLConfig
) -> "DiscreteCQLLoss":
    """The loss of torchrl on a policy's logits, which share its weights; with a target network.

    TrainingConfig:
        policy: its logits become Q-values.
        skeletons: to which ``skeleton`` in the batches refers.
        settings: of the algorithm.
    """
    from torchrl.modules import QValueActor
    from torchrl.objectives import DiscreteCQLLoss
    from torchrl.objectives.utils import ValueEstimators

    actor = QValueActor(
        _ValueNetwork(policy, skeletons), in_keys=list(_STATE), action_space="categorical"
    )
    loss = DiscreteCQLLoss(actor, action_space="categorical", delay_value=True)
    # The estimator keeps a copy of the network as it is now: one without dropout.
    policy.eval()
    loss.make_value_estimator(ValueEstimators.TD0, gamma=settings.gamma)
    policy.train()
    return loss


class _ValueNetwork(nn.Module):
    """Q-values of K states of each of S skeletons, from tensors alone.

    Shapes: rows of the skeletons (K, S), equal along K; codes (K, S, N); focus (K, S) to (K, S, V).
    """

    def __init__(self, policy: SkeletonPolicy, skeletons: SkeletonStore) -> None:
        super().__init__()
        self.policy = policy
        self.skeletons = skeletons

    def forward(self, skeleton: Tensor, element: Tensor, focus: Tensor) -> Tensor:
        batch = self.skeletons.batch(skeleton[0])
        return self.policy(batch, batch.flat(element), focus).float()


class TargetState:
    """The target network's weights, in the form in which checkpoints keep their parts."""

    def __init__(self, loss: "DiscreteCQLLoss") -> None:
        self._loss = loss

    def _weights(self) -> dict[str, Tensor]:
        flat = self._loss.target_value_network_params.flatten_keys(".")
        return {str(key): value.data for key, value in flat.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by name."""
        return self._weights()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put weights in the place of the present ones."""
        for name, value in self._weights().items():
            value.copy_(state[name])


class RewardedStore:
    """Transitions with rewards and the states that follow, on one device.

    TrainingConfig:
        data: transitions; those of a trajectory follow one another.
        device: where the tensors live.
    """

    def __init__(self, data: "Transitions", device: torch.device | str = "cpu") -> None:
        self._store = TransitionStore(data, device)
        self.skeletons = self._store.skeletons
        self._skeleton = self._store.skeleton.to(device)
        self._reward = torch.as_tensor(data.reward, device=device)
        self._done = torch.as_tensor(data.done, device=device)

    def epoch(self, recipe: Recipe, random: torch.Generator) -> list[Tensor]:
        """The batches of one epoch, shuffled: groups (S, K) of K transitions of one skeleton."""
        return list(self._store.groups(recipe.states, random).split(recipe.skeletons))

    def batch(self, groups: Tensor) -> "TensorDict":
        """Transitions as torchrl takes them, batch size (K, S)."""
        from tensordict import TensorDict

        store = self._store
        index = groups.T.to(self._done.device)
        element = store.elements[index].to(torch.int64)
        focus, action, done = store.focus[index], store.action[index], self._done[index]
        # After the last step there is no next focus; the value there is not asked for.
        following = store.focus[index + ~done]
        state = {"skeleton": self._skeleton[index], "element": element, "focus": focus}
        then = {
            "skeleton": state["skeleton"],
            "element": element.scatter(-1, focus[..., None], action[..., None] + 1),
            "focus": following,
            "reward": self._reward[index][..., None],
            "done": done[..., None],
            "terminated": done[..., None],
        }
        return TensorDict({**state, "action": action, "next": then}, batch_size=index.shape)


def _check(args: TrainingConfig, settings: CQLConfig, data: "Transitions") -> None:
    if args.precision == "16-mixed":
        raise CrystalGymError("CQLConfig learns in 32-true or bf16-mixed, not in 16-mixed.")
    if args.devices != 1:
        raise CrystalGymError(
            f"CQLConfig learns in one process; devices must be 1, not {args.devices}."
        )
    if not (0 <= settings.alpha < np.inf and 0 <= settings.gamma <= 1 and 0 < settings.tau <= 1):
        raise CrystalGymError(
            "alpha must be at least 0 and finite, gamma from 0 to 1 and tau above 0 and at most 1; "
            f"not {settings.alpha}, {settings.gamma} and {settings.tau}."
        )
    strange = int((~np.isfinite(data.reward)).sum())
    if strange:
        raise CrystalGymError(
            f"{strange} rewards of {data.dataset_id} are NaN or infinite; values cannot be learned "
            "from them. Data sets of build_dataset leave such episodes out."
        )


def _fingerprint(args: TrainingConfig, settings: CQLConfig, data: "Transitions") -> str:
    """Of everything that decides the weights: settings, vocabulary and data."""
    digest = hashlib.sha256()
    told = [dataclasses.asdict(args.recipe), dataclasses.asdict(settings), args.seed]
    told += [args.precision, data.vocabulary, args.patience, args.validate_every]
    digest.update(json.dumps(told).encode())
    geometry = (data.n_sites, data.frac_coords, data.lattice, data.edges)
    steps = (data.skeleton, data.elements, data.focus, data.action, data.reward, data.done)
    for array in (*geometry, *steps):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _record(args: TrainingConfig, settings: CQLConfig, progress: Progress) -> dict[str, Any]:
    last = progress.history[-1]
    return {
        **args.provenance,
        "algorithm": "cql",
        "cql": dataclasses.asdict(settings),
        "recipe": dataclasses.asdict(args.recipe),
        "seed": args.seed,
        "epochs": len(progress.history),
        "steps": progress.step,
        "seconds": round(sum(row["seconds"] for row in progress.history), 1),
        "accelerator": args.accelerator,
        "precision": args.precision,
        "train_accuracy": last["train_accuracy"],
        "val_accuracy": progress.best_accuracy if args.patience else last.get("val_accuracy"),
    }
