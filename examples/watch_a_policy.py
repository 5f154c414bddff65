"""Fill one crystal with a trained policy and draw every step.

python examples/watch_a_policy.py demo/policy goldschmidt filling.png
"""

import sys
from pathlib import Path

from crystal_agents import load_policy
from crystal_agents.policies.frames import filling_frames, save_grid
from crystal_gym import load_collection

if len(sys.argv) < 4:
    sys.exit(__doc__)
folder, name, picture = sys.argv[1:4]
collection = load_collection(name)
# The id of a crystal; by default, the first crystal of the test split.
crystal = sys.argv[4] if len(sys.argv) > 4 else int(collection.in_split("test")[0])
frames = filling_frames(load_policy(folder), collection, crystal)
save_grid(frames, Path(picture))
print(f"{collection.formula(crystal)} in {len(frames) - 1} steps: {picture}")
