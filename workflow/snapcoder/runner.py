"""Run one step as a rule asks for it: check the code, hash the inputs, run, verify the outputs, write the record."""

import argparse
import importlib
import logging
import sys
import time
from pathlib import Path

from snapcoder.job import Job, parse_settings
from snapcoder.lifeline import end_with_run, only_one
from snapcoder.provenance.fingerprint import step_fingerprint
from snapcoder.provenance.record import build_core, build_record, study_root
from snapcoder.storage.atomic import write_text
from snapcoder.storage.hashing import canonical_json

logger = logging.getLogger("snapcoder")


def run_step(step: str, arguments: list[str]) -> int:
    """Run `step` with a rule's command line; return the exit status.

    Bad input ends with one line on standard error and status 1, the traceback in the log only.
    """
    options = _parser(step).parse_args(arguments)
    end_with_run()
    _start_logging(options.log)
    try:
        with only_one(_lock_of(options.record)) as waited:
            if waited:
                logger.info("%s: waited for a process of an earlier run that was still on this job", step)
            _run(step, options, arguments)
    except (ValueError, OSError) as error:
        logger.debug("traceback of the error below", exc_info=True)
        logger.error("%s: %s", step, " ".join(str(error).split()))
        return 1
    except KeyboardInterrupt:
        logger.error("%s: interrupted", step)
        return 130
    except Exception:
        logger.exception("%s: a defect in snapcoder, please report it with this log", step)
        return 2
    finally:
        _end_logging()
    return 0


def _lock_of(record: Path) -> Path:
    return study_root(record) / ".locks" / "-".join(record.parts[-2:])


def _parser(step: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m snapcoder {step}", allow_abbrev=False)
    parser.add_argument("--in", dest="inputs", action="append", nargs="+", default=[], metavar="NAME FILE")
    parser.add_argument("--out", dest="outputs", action="append", nargs="+", default=[], metavar="NAME FILE")
    parser.add_argument("--record", required=True, type=Path, help="provenance record to write")
    parser.add_argument("--settings", required=True, help="settings of the step, as JSON")
    parser.add_argument("--code", required=True, help="fingerprint of the code that the workflow planned with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log", type=Path, default=None)
    return parser


def _start_logging(log: Path | None) -> None:
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    _end_logging()
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.INFO)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(terminal)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log, mode="w", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(file)


def _end_logging() -> None:
    for handler in list(logger.handlers):
        handler.close()
        logger.removeHandler(handler)


def _named(groups: list[list[str]]) -> dict[str, tuple[Path, ...]]:
    return {group[0]: tuple(Path(path) for path in group[1:]) for group in groups}


def _run(step: str, options: argparse.Namespace, arguments: list[str]) -> None:
    started = time.time()
    planned, present = options.code, step_fingerprint(step)
    if planned != present:
        raise ValueError(
            f"its code changed after the workflow was planned ({planned} → {present}); start snakemake again"
        )
    settings, root = parse_settings(options.settings), study_root(options.record)
    inputs, outputs = _named(options.inputs), _named(options.outputs)
    core = build_core(step, settings=settings, code=present, inputs=inputs, root=root)
    job = Job(step=step, inputs=inputs, outputs=outputs, settings=settings, threads=options.threads, core=core)
    module = importlib.import_module(f"snapcoder.steps.{step}")
    _limit_threads(options.threads)
    getattr(module, step)(job)
    written = [path for paths in outputs.values() for path in paths]
    missing = [str(path) for path in written if not path.is_file()]
    if missing:
        raise RuntimeError(f"the step ended without writing {missing[0]}")
    argv = ["python", "-m", "snapcoder", step, *arguments]
    record = build_record(core, outputs=written, root=root, argv=argv, started=started, threads=options.threads)
    write_text(options.record, canonical_json(record) + "\n")
    logger.debug("%s: done in %.1f s", step, time.time() - started)


def _limit_threads(threads: int) -> None:
    torch = sys.modules.get("torch")  # a step that does not use torch must not pay for importing it
    if torch is not None:
        torch.set_num_threads(threads)
