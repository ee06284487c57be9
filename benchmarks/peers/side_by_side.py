"""The table: arms against the bare encoder product and against Snapcoder, medians over rounds, failures named."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from arms import PRODUCTS, SNAPCODER, ArmEntry
from planted_rows import Size

WARM_UP_STEPS = 3
MIB = 2**20


@dataclass
class Run:
    """One arm in one round. seconds: of every step; memory in bytes; scores: by moment, ev, l0, l0_any and the step."""

    size: str
    round: int
    arm: str
    seconds: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    error: str = ""
    lr: float = 0.0

    @property
    def step_seconds(self) -> float:
        """Median over the steps after warm-up."""
        return median(self.seconds[WARM_UP_STEPS:])

    @property
    def step_memory(self) -> int:
        """Peak while stepping, less what was resident right before the first step."""
        return self.memory["peak"] - self.memory["before_first_step"]

    @property
    def training_memory(self) -> int:
        """Peak of building and stepping, less what was resident once libraries and rows were there."""
        return max(self.memory["peak"], self.memory["build_peak"]) - self.memory["before_build"]


HEADER = (
    "| arm | tokens/s | slowest round | Snapcoder is faster by (least) | step, ms | ÷ product fp32 | ÷ product bf16 | "
    "step memory, MiB | training memory, MiB | peak of the process, MiB | EV after {steps} steps | "
    "EV after {seconds:g} s (steps) | L0 there, per snapshot / any |\n|---|" + "---:|" * 12
)


def size_table(
    runs: Sequence[Run], arms: Sequence[ArmEntry], size: Size, *, name: str, seconds: float, steps: int
) -> str:
    """Return the markdown table of one size, in the order of `arms`."""
    here = [run for run in runs if run.size == name]
    rows = [HEADER.format(steps=steps, seconds=seconds)]
    rows += [_row(arm, here, size) for arm in arms]
    return "\n".join(rows)


def _row(arm: ArmEntry, runs: Sequence[Run], size: Size) -> str:
    own = [run for run in runs if run.arm == arm.name]
    done = [run for run in own if not run.error]
    if not done:
        return f"| {arm.name} | does not run: `{own[0].error if own else 'not asked for'}` |" + " |" * 11
    speeds = [size.batch_size / run.step_seconds for run in done]
    speed_ratios = ratios(runs, arm.name, SNAPCODER.name)
    cells = [
        f"{median(speeds):,.0f}",
        f"{min(speeds):,.0f}",
        _pair(speed_ratios),
        f"{1e3 * size.batch_size / median(speeds):.1f}",
        *(
            f"{median(against):.2f}" if (against := ratios(runs, arm.name, product.name)) else ""
            for product in PRODUCTS
        ),
        f"{median(run.step_memory for run in done) / MIB:,.0f}",
        f"{median(run.training_memory for run in done) / MIB:,.0f}",
        f"{median(run.memory['peak'] for run in done) / MIB:,.0f}",
        *_score_cells(done),
    ]
    failed = f" ({len(own) - len(done)} of {len(own)} rounds failed: `{own[-1].error}`)" if len(done) < len(own) else ""
    return f"| {arm.name}{failed} | " + " | ".join(cells) + " |"


def _score_cells(done: Sequence[Run]) -> tuple[str, str, str]:
    scores = next((run.scores for run in done if run.scores), {})
    if "steps" not in scores or "seconds" not in scores:
        return "", "", ""
    late = scores["seconds"]
    own = f" (own threshold: EV {late['own_ev']:.3f} at L0 {late['own_l0']:.1f})" if "own_ev" in late else ""
    return (
        f"{scores['steps']['ev']:.3f}",
        f"{late['ev']:.3f} ({late['step']:.0f})",
        f"{late['l0']:.1f} / {late['l0_any']:.1f}{own}",
    )


def ratios(runs: Sequence[Run], arm: str, other: str) -> list[float]:
    """Return, for every round in which both ran, the arm's step time over the other's."""
    times = {(run.arm, run.round): run.step_seconds for run in runs if not run.error}
    rounds = sorted({run.round for run in runs})
    return [times[arm, i] / times[other, i] for i in rounds if (arm, i) in times and (other, i) in times]


def _pair(values: Sequence[float]) -> str:
    return f"{median(values):.2f}× ({min(values):.2f}×)" if values else ""


def summary(runs: Sequence[Run], arms: Sequence[ArmEntry], *, name: str) -> str:
    """Return one line per goal, with the figures of this run: speed over the best peer, memory, step over product."""
    here = [run for run in runs if run.size == name and not run.error]
    ours = [run for run in here if run.arm == SNAPCODER.name]
    peers = {arm.name for arm in arms if arm.peer} & {run.arm for run in here}
    if not ours or not peers:
        return f"{name}: no comparison, as Snapcoder or every peer is missing."
    best = min(peers, key=lambda peer: median(run.step_seconds for run in here if run.arm == peer))
    speed = ratios(here, best, SNAPCODER.name)
    lines = [f"- {name}: {_pair(speed)} the tokens/s of the fastest peer ({best})."]
    if any(run.scores for run in ours):
        best_ev = {
            moment: max(
                (run.scores[moment]["ev"], run.arm) for run in here if run.arm in peers and moment in run.scores
            )
            for moment in ("steps", "seconds")
            if any(run.arm in peers and moment in run.scores for run in here)
        }
        mine = next(run.scores for run in ours if run.scores)
        said = [f"{mine[moment]['ev']:.3f} against {ev:.3f} ({arm})" for moment, (ev, arm) in best_ev.items()]
        lines.append(f"- {name}: EV after the same steps, then after the same seconds: {'; '.join(said)}.")
    step, training = (
        {
            arm: median(getattr(run, quantity) for run in here if run.arm == arm)
            for arm in {SNAPCODER.name} | {peer for peer in peers if peer.startswith("llamascopium")}
        }
        for quantity in ("step_memory", "training_memory")
    )
    if len(step) > 1:
        least = [
            min(value for arm, value in memory.items() if arm != SNAPCODER.name) / max(memory[SNAPCODER.name], 1)
            for memory in (step, training)
        ]
        lines.append(
            f"- {name}: the leanest llamascopium arm needs {least[0]:.1f}× our step memory, {least[1]:.1f}× our training "
            "memory."
        )
    against = [ratios(here, SNAPCODER.name, product.name) for product in PRODUCTS]
    if all(against):
        lines.append(
            f"- {name}: our step takes {median(against[0]):.2f}× the bare encoder product in fp32 "
            f"({median(against[1]):.2f}× in bf16)."
        )
    return "\n".join(lines)
