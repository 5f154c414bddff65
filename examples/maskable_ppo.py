"""Train MaskablePPO of sb3-contrib from scratch and from a cloned policy.

    python examples/maskable_ppo.py

The mask `composition` leaves the elements that the crystal still has to place, so the task is to
assign a known composition to the sites. The return is the fraction of sites with their true
element, on crystals that are not used for training.
"""

from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks

from crystal_agents import SkeletonVecEnv, from_scratch, load_policy, warm_start
from crystal_gym import CrystalSkeletonVectorEnv


def environments(n_envs: int, split: str) -> SkeletonVecEnv:
    """Return the native vector environment for Stable-Baselines3."""
    return SkeletonVecEnv(
        CrystalSkeletonVectorEnv(n_envs, autoreset_mode="SameStep", split=split, mask="composition")
    )


def mean_return(model: MaskablePPO, n_envs: int = 512) -> float:
    """Return the mean return of one greedy episode in each environment."""
    envs = environments(n_envs, "val")
    envs.seed(0)
    observations, total, running = envs.reset(), 0.0, 1.0
    while running:
        actions, _ = model.predict(
            observations, deterministic=True, action_masks=get_action_masks(envs)
        )
        observations, rewards, ended, _ = envs.step(actions)
        total += rewards.sum()
        running = not ended.all()
    return total / n_envs


policy = load_policy("goldschmidt/egnn")
envs = environments(64, "train")
settings = {"n_steps": 10, "batch_size": 320, "n_epochs": 2}
models = {
    "from scratch": from_scratch(policy, "maskable-ppo", envs, **settings),
    "warm-started": warm_start(policy, "maskable-ppo", envs, critic_warm_up=640, **settings),
}
for name, model in models.items():
    before = mean_return(model)
    model.learn(3840)
    print(f"{name}: return {before:.3f} before and {mean_return(model):.3f} after training")
