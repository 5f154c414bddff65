"""Let a cloned policy learn on by PPO, and save it as a policy again.

    python examples/finetune.py

Most figures are in sight within a minute; learning itself takes more steps than here.
"""

from crystal_agents import SkeletonVecEnv, extract_policy, load_policy, warm_start
from crystal_agents.evaluation.returns import greedy_metrics
from crystal_gym import CrystalSkeletonVectorEnv
from crystal_gym.envs.generator import InstanceGenerator

policy = load_policy("goldschmidt/egnn")
native = CrystalSkeletonVectorEnv(64, autoreset_mode="SameStep", reward="validity-strict")
envs = SkeletonVecEnv(native)

# A model of Stable-Baselines3 that acts as the policy does. First its critic learns alone; then the
# actor learns too, held near the policy by an anchor that wears off.
model = warm_start(policy, "ppo", envs, critic_warm_up=1280, anchor=0.1, n_steps=10, batch_size=320)
choices, _ = model.predict(envs.reset(), deterministic=True)
print("first choices:", " ".join(policy.vocabulary.symbols[choice] for choice in choices[:8]))

model.learn(3840)
model.save("finetuned-ppo")  # Stable-Baselines3's own file
learned = extract_policy(model)
learned.save("finetuned")  # for `crystal-gym evaluate finetuned`

held_out = InstanceGenerator("goldschmidt", split="val")
for name, one in (("cloned", policy), ("finetuned", learned)):
    metrics = greedy_metrics(one, held_out, reward="validity-strict")
    print(f"{name}: match {metrics['match']:.2%}, valid {metrics['validity']:.2%} of val")
