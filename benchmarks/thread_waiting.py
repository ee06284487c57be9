"""How fast pre-training runs with spinning and with sleeping OpenMP threads, on an idle and on a shared machine.

python benchmarks/thread_waiting.py > benchmarks/thread_waiting.md
"""

import multiprocessing
import os
import subprocess
import sys

MEASURE = """
import sys, time
import numpy as np, torch
from snapcoder.snapshots.pretrain import initial_state, model_config, train
from snapcoder.study.snapshots import PretrainSettings
torch.set_num_threads(int(sys.argv[1]))
settings = PretrainSettings(steps=100_000, save_steps=(), checkpoint_every=5)
tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 512, size=(2000, 64)))
state = initial_state(settings, model_config(settings, vocab_size=512, context_length=64, end_of_text=0), device=torch.device("cpu"))
class End(Exception): pass
begun = None
def checkpoint(at):
    global begun
    if at.step == 20: begun = time.time()
    if begun and time.time() - begun > 6: raise End
try: train(state, tokens, settings, on_snapshot=lambda _: None, on_checkpoint=checkpoint)
except End: print((state.step - 20) * 2048 / (time.time() - begun))
"""


def tokens_per_second(threads: int, policy: str) -> float:
    """Return the speed of the default model's training in a fresh process."""
    environment = {**os.environ, **({"OMP_WAIT_POLICY": policy} if policy else {})}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(threads)], env=environment, capture_output=True, text=True
    )
    return float(done.stdout)


def spin() -> None:
    """Keep one core busy."""
    while True:
        pass


def main() -> None:
    """Print a markdown table: rows are thread settings, columns an idle machine and one with a busy neighbour."""
    cores = os.cpu_count() or 1
    print(f"# Waiting OpenMP threads\n\nPre-training of the default model, tokens/s, {cores} cores.\n")
    print("| threads | waiting | idle machine | one other busy process |\n|---|---|---|---|")
    for threads, policy in ((cores, ""), (cores, "passive"), (1, "passive")):
        idle = tokens_per_second(threads, policy)
        neighbour = multiprocessing.Process(target=spin, daemon=True)
        neighbour.start()
        shared = tokens_per_second(threads, policy)
        neighbour.kill()
        print(f"| {threads} | {policy or 'spinning (default)'} | {idle:,.0f} | {shared:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
