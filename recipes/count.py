"""How many processes a launcher really started: `accelerate launch --config_file FILE recipes/count.py`."""

import os

from accelerate import PartialState

state = PartialState(cpu=True)
print(f"process {state.process_index} of {state.num_processes}, WORLD_SIZE={os.environ.get('WORLD_SIZE')}")
