"""Train peers and Snapcoder on the same planted activations, one after the other, and write a table.

    python benchmarks/peers/run.py [--sizes easy,large,single] [--seconds-per-arm 20] [--out benchmarks/peers.md]

The peers are installed into an environment of their own (--env) on first use. Every arm runs alone in a process of its
own. Rounds are interleaved: all arms once, then all arms again; the first round also scores the dictionaries.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from arms import PRODUCTS, ArmEntry, arms_of
from equal_sparsity import at_equal_sparsity, scored
from peers_environment import peers_python
from planted_rows import SIZES, Size, planted_rows
from side_by_side import Run, size_table, summary

HERE = Path(__file__).resolve().parent
SEED = 0
LIMIT_SECONDS = 1800.0  # after which an arm counts as hanging
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def main() -> None:
    """Run every arm of every size and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="easy,large,single", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--seconds-per-arm", type=float, default=20.0, help="training time of an arm in a round")
    parser.add_argument("--steps", type=int, default=100, help="steps after which all arms are scored")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arms", default="", help="only arms whose name contains one of these, comma-separated")
    parser.add_argument("--learning-rates", default="", help="try these first and give every arm its best, by EV")
    parser.add_argument("--env", type=Path, default=Path("results/peers_environment"), help="the peers' environment")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/peers.md"))
    options = parser.parse_args()
    names = options.sizes.split(",")
    if unknown := [name for name in names if name not in SIZES]:
        parser.error(f"--sizes: {', '.join(unknown)} unknown; give some of {', '.join(SIZES)}")
    peers = peers_python(options.env)
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            runs += run_size(name, options, peers, Path(folder))
            options.out.write_text(page(runs, names, options), encoding="utf-8")
    options.out.with_suffix(".json").write_text(json.dumps([vars(run) for run in runs]) + "\n", encoding="utf-8")


def run_size(name: str, options: argparse.Namespace, peers: Path, folder: Path) -> list[Run]:
    """Run the arms of one size, round after round."""
    size = SIZES[name]
    rows = folder / f"{name}.npy"
    x = planted_rows(size, SEED)
    np.save(rows, x)
    wanted = [part for part in options.arms.split(",") if part]
    arms = [arm for arm in arms_of(name, size.n_snapshots) if not wanted or any(part in arm.name for part in wanted)]
    if rates := [float(rate) for rate in options.learning_rates.split(",") if rate]:
        arms = [best_rate(arm, rates, name, options, peers, rows, x) for arm in arms]
    runs = []
    for turn in range(options.rounds):
        for arm in (*PRODUCTS, *arms):
            run = run_arm(arm, name, size, turn, options, peers, rows)
            if turn == 0 and arm not in PRODUCTS and not run.error:
                score(run, rows.with_name("out.npz"), x, size)
            runs.append(run)
            speed = run.error or f"{size.batch_size / run.step_seconds:,.0f} tokens/s"
            print(f"{name}, round {turn + 1}, {arm.name}: {speed}", file=sys.stderr, flush=True)
    return runs


def best_rate(
    arm: ArmEntry,
    rates: list[float],
    name: str,
    options: argparse.Namespace,
    peers: Path,
    rows: Path,
    x: np.ndarray,
) -> ArmEntry:
    """Return the arm with the learning rate that explains most after the benchmark's steps; unchanged if it fails."""
    size, tried = SIZES[name], {arm.lr: -1.0}
    quick = argparse.Namespace(**{**vars(options), "seconds_per_arm": 0.0})
    for rate in rates:
        run = run_arm(replace(arm, lr=rate), name, size, 0, quick, peers, rows)
        if not run.error:
            score(run, rows.with_name("out.npz"), x, size)
            tried[rate] = run.scores["steps"]["ev"]
            print(f"{name}, {arm.name}, learning rate {rate:g}: EV {tried[rate]:.3f}", file=sys.stderr, flush=True)
    return replace(arm, lr=max(tried, key=lambda rate: tried[rate]))


def run_arm(
    arm: ArmEntry, name: str, size: Size, turn: int, options: argparse.Namespace, peers: Path, rows: Path
) -> Run:
    """Run one arm in a process of its own; what goes wrong there becomes the run's error."""
    problem = {
        "variant": arm.variant,
        "n_snapshots": size.n_snapshots,
        "d_model": size.d_model,
        "n_features": size.n_features,
        "k": size.k,
        "batch_size": size.batch_size,
        "n_train": size.n_train,
        "lr": arm.lr,
        "planned_steps": options.steps,
        "seed": SEED,
    }
    problem_file, out = rows.with_name("problem.json"), rows.with_name("out.json")
    problem_file.write_text(json.dumps(problem), encoding="utf-8")
    out.unlink(missing_ok=True)
    out.with_suffix(".npz").unlink(missing_ok=True)
    scoring = options.steps if turn == 0 and arm not in PRODUCTS else 0
    seconds = min(2.0, options.seconds_per_arm) if arm in PRODUCTS else options.seconds_per_arm
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(options.threads)),
        "WANDB_MODE": "disabled",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable if arm.own else str(peers), HERE / f"{arm.worker}_worker.py", rows, problem_file, out]
    limits = ["--seconds", str(seconds), "--steps", str(scoring), "--threads", str(options.threads)]
    run = Run(name, turn, arm.name, lr=arm.lr)
    try:
        done = subprocess.run(
            [*command, *limits], env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return replace(run, error=f"no result after {LIMIT_SECONDS:.0f} s")
    if done.returncode != 0:
        return replace(run, error=(done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:200])
    measured = json.loads(out.read_text(encoding="utf-8"))
    moments = {moment: {"step": float(step)} for moment, step in measured["steps_of"].items()}
    return replace(run, seconds=measured["seconds"], memory=measured["memory"], facts=measured["facts"], scores=moments)


def score(run: Run, dictionaries: Path, x: np.ndarray, size: Size) -> None:
    """Put the held-out scores of an arm's dictionaries into its run."""
    with np.load(dictionaries, allow_pickle=False) as archive:
        kept = {key: archive[key] for key in archive.files}
    for moment, values in run.scores.items():
        prefix = f"{moment}."
        dictionary = {key.removeprefix(prefix): value for key, value in kept.items() if key.startswith(prefix)}
        values |= vars(at_equal_sparsity(dictionary, x, size.n_train, size.k))
        if "threshold" in dictionary:
            own = scored(dictionary, x[size.n_train :], dictionary["threshold"])
            values |= {"own_ev": own.ev, "own_l0": own.l0}


def page(runs: list[Run], names: list[str], options: argparse.Namespace) -> str:
    """Return the whole page: what was done and on what, goals, tables, arms."""
    done = [name for name in names if any(run.size == name for run in runs)]
    command = f"python benchmarks/peers/run.py --sizes {options.sizes} --seconds-per-arm {options.seconds_per_arm:g}"
    command += f" --steps {options.steps} --rounds {options.rounds} --threads {options.threads}"
    command += f" --arms '{options.arms}'" if options.arms else ""
    command += f" --learning-rates {options.learning_rates}" if options.learning_rates else ""
    facts: dict[str, set[str]] = {}
    for run in runs:
        for key, value in run.facts.items():
            facts.setdefault(key, set()).add(value)
    rates = "none was tuned on these rows"
    if options.learning_rates:
        rates = f"every arm has the one of {options.learning_rates} with the highest EV after {options.steps} steps"
    text = [
        "# Snapcoder and its peers, side by side",
        f"Command: `{command}`. {machine()}, {options.threads} threads. Versions: "
        + ", ".join(
            f"{key} {' and '.join(sorted(facts[key]))}"
            for key in ("torch", "snapcoder", "llamascopium", "transformer-lens", "sae-lens", "eai-sparsify")
            if key in facts
        )
        + ".",
        METHOD.format(rounds=options.rounds, steps=options.steps, seconds=options.seconds_per_arm, rates=rates),
    ]
    arms = {name: [arm for arm in arms_of(name, SIZES[name].n_snapshots) if _ran(runs, arm)] for name in done}
    text.append("\n".join(summary(runs, arms[name], name=name) for name in done))
    for name in done:
        size = SIZES[name]
        text.append(
            f"## {name}: {size.n_snapshots} snapshots, d {size.d_model}, {size.n_features} features, batch "
            f"{size.batch_size}, k {size.k}"
        )
        text.append(size_table(runs, arms[name], size, name=name, seconds=options.seconds_per_arm, steps=options.steps))
    notes = {
        arm.name: f"- **{arm.name}** (learning rate {_rates(runs, arm)}): {arm.note}"
        for name in done
        for arm in arms[name]
    }
    text.append("## What each arm is\n\n" + "\n".join(notes.values()))
    if failures := sorted(facts.get("does not run", ())):
        text.append("llamascopium, tried in the same run: " + "; ".join(failures))
    if settings := sorted(facts.get("settings", ())):
        text.append("Snapcoder's settings: " + "; ".join(settings) + ".")
    return "\n\n".join(text) + "\n"


METHOD = """All arms train on the same planted rows (numpy, `planted_rows.py`), one process at a time, {rounds} rounds of \
all arms after each other. A step is a whole one: batch fetched, forward, backward, clipping, optimiser. tokens/s is the \
batch over the median step after warm-up, then the median of the rounds; ratios are taken within a round and shown as \
median (least). Step memory is the peak resident memory while training, less what was resident right before the first \
step; training memory is less what was resident with libraries loaded, compiled and the rows in memory, so that it does \
not matter whether an arm allocates its weights and Adam's moments early or late. Explained variance (EV) is of held-out \
rows, by one scorer for all arms, at one threshold per dictionary set on train rows for k active features per token and \
snapshot; after {steps} steps and after {seconds:g} s of training. L0 per snapshot counts a feature of an arm with one \
gate at every snapshot; 'any' counts features that are on at one snapshot or more. The learning rate of each arm is given \
below; {rates}."""


def _ran(runs: list[Run], arm: ArmEntry) -> bool:
    return any(run.arm == arm.name for run in runs)


def _rates(runs: list[Run], arm: ArmEntry) -> str:
    return ", ".join(dict.fromkeys(f"{run.lr:g} at {run.size}" for run in runs if run.arm == arm.name))


def machine() -> str:
    """Return the machine in words, without its name."""
    flags: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        line = next((line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("flags")), "")
        flags = set(line.split())
    known = ", ".join(name for name in INSTRUCTION_SETS if name in flags) or "instruction sets unknown"
    return f"{platform.machine()} with {os.cpu_count()} cores ({known}), {platform.system()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
