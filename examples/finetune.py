"""Fine-tune a cloned policy with PPO and save it as a policy again.

    python examples/finetune.py

The example runs in a minute; useful training takes more steps.
"""

from crystal_agents import SkeletonVecEnv, extract_policy, load_policy, warm_start
from crystal_agents.evaluation.returns import greedy_returns, nan_means
from crystal_agents.policies.policy import PolicyScorer
from crystal_gym import CrystalSkeletonVectorEnv

policy = load_policy("goldschmidt/egnn")
native = CrystalSkeletonVectorEnv(64, autoreset_mode="SameStep", reward="validity-strict")
envs = SkeletonVecEnv(native)

# A Stable-Baselines3 model with the policy's actions. At first only the critic is trained; then a
# KL anchor, which decays to zero, keeps the actor close to the policy.
model = warm_start(policy, "ppo", envs, critic_warm_up=1280, anchor=0.1, n_steps=10, batch_size=320)
actions, _ = model.predict(envs.reset(), deterministic=True)
print("first actions:", " ".join(policy.vocabulary.symbols[action] for action in actions[:8]))

model.learn(3840)
model.save("finetuned-ppo")  # Stable-Baselines3's format
learned = extract_policy(model)
learned.save("finetuned")  # for `crystal-gym evaluate finetuned`

table = native.table
held_out = table.collection.in_split("val")
for name, measured in (("cloned", policy), ("finetuned", learned)):
    episodes = greedy_returns(PolicyScorer(measured, table), table, held_out, native.reward)
    means = nan_means(episodes.metrics).means
    print(f"{name}: match {means['match']:.2%}, valid {means['validity']:.2%} of val")
