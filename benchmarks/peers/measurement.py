"""What every arm's worker runs: whole training steps timed one by one, memory, and the dictionary at two moments.

A worker gives a function that builds its arm. It runs in a process of its own, reads the rows and a problem file, and
writes a JSON file with times and memory and an NPZ file with the dictionaries; run.py scores those.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from process_memory import peak_bytes, reset_peak, resident_bytes
from torch import Tensor

WARM_UP_STEPS = 3
LEAST_TIMED_STEPS = 5


@dataclass(frozen=True)
class Problem:
    """What an arm is to train. lr: constant after a linear warm-up of lr_warmup_steps; planned_steps: the length that an
    arm with a schedule is to plan for.
    """

    variant: str
    n_snapshots: int
    d_model: int
    n_features: int
    k: int
    batch_size: int
    n_train: int
    lr: float
    planned_steps: int = 100
    lr_warmup_steps: int = 10
    seed: int = 0


class Arm(Protocol):
    """A trainer. facts: versions and anything a reader must know; they go into the table."""

    facts: dict[str, str]

    def update(self) -> None:
        """Fetch one batch and do one whole optimiser step."""

    def dictionary(self) -> dict[str, np.ndarray]:
        """Return encoder [snapshot, model, feature], encoder_bias [feature], decoder [snapshot, feature, model],
        decoder_bias [snapshot, model], gate (per_snapshot, rms or sum), and, if there is one of its own, threshold
        [feature] in units of z · gate norm.
        """


Build = Callable[[Tensor, Problem], Arm]


@dataclass
class Measured:
    """Seconds of every step, bytes of memory, and the steps after which dictionaries were kept."""

    seconds: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    steps_of: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


def batches(x: Tensor, problem: Problem) -> Iterator[Tensor]:
    """Yield batches [token, snapshot, model] of train rows in one seeded global order, epoch after epoch."""
    generator = np.random.default_rng(problem.seed)
    while True:
        order = torch.from_numpy(generator.permutation(problem.n_train))
        for start in range(0, problem.n_train - problem.batch_size + 1, problem.batch_size):
            yield x[order[start : start + problem.batch_size]]


def measure(
    build: Build, x: Tensor, problem: Problem, *, seconds: float, steps: int
) -> tuple[Measured, dict[str, np.ndarray]]:
    """Train until both limits are reached; return times, memory and the dictionaries after `steps` and `seconds`.

    Steps 0 asks for times alone and returns no dictionaries.
    """
    _wake_libraries(build, x, problem)
    result, kept = Measured(), {}
    result.memory["resets"] = int(reset_peak())
    result.memory["before_build"] = resident_bytes()
    arm = build(x, problem)
    result.memory["build_peak"] = peak_bytes()
    reset_peak()
    result.memory["before_first_step"] = resident_bytes()
    trained, least = 0.0, max(steps, WARM_UP_STEPS + LEAST_TIMED_STEPS)
    while trained < seconds or len(result.seconds) < least:
        begun = time.perf_counter()
        arm.update()
        result.seconds.append(time.perf_counter() - begun)
        trained += result.seconds[-1]
        if not kept:  # copies of dictionaries are no part of an arm's memory
            result.memory["peak"] = peak_bytes()
        for name, due in (("steps", len(result.seconds) >= steps), ("seconds", trained >= seconds)):
            if steps and due and name not in result.steps_of:
                result.steps_of[name] = len(result.seconds)
                kept |= {f"{name}.{key}": np.array(value) for key, value in arm.dictionary().items()}
    result.facts = {"torch": torch.__version__, **arm.facts}
    return result, kept


def _wake_libraries(build: Build, x: Tensor, problem: Problem) -> None:
    """Run a small problem, so that compilation and lazily loaded libraries are not counted as a step's memory.

    Few of its features are on, as in the real problem, so that an arm that chooses its code by that share chooses alike.
    """
    toy = replace(
        problem, n_features=min(256, problem.n_features), k=1, batch_size=64, n_train=min(640, problem.n_train)
    )
    arm = build(x, toy)
    for _ in range(2):
        arm.update()


def main(build: Build) -> None:
    """Run one arm as run.py asks for it on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("problem", type=Path)
    parser.add_argument("out", type=Path)
    for name, kind in (("seconds", float), ("steps", int), ("threads", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    problem = Problem(**json.loads(arguments.problem.read_text(encoding="utf-8")))
    torch.manual_seed(problem.seed)
    x = torch.from_numpy(np.load(arguments.rows, allow_pickle=False))
    result, kept = measure(build, x, problem, seconds=arguments.seconds, steps=arguments.steps)
    np.savez(arguments.out.with_suffix(".npz"), **kept)
    arguments.out.write_text(json.dumps(asdict(result)), encoding="utf-8")
