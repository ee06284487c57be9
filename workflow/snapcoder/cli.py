"""`snapcoder`: commands for people (plan, audit, trace, feature, import, export, schema) and steps for rules."""

import argparse
import sys
from pathlib import Path

from snapcoder import __version__
from snapcoder.warm import run_warm

_PEOPLE = ("plan", "audit", "trace", "feature", "import", "export", "schema")


def main(arguments: list[str] | None = None) -> int:
    """Run a command of a person or the step of a rule; return the exit status.

    A step runs in a fork of the warm process when there is one (see `snapcoder.warm`).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments else ""
    if command and command not in _PEOPLE and not command.startswith("-") and _is_step(command):
        status = run_warm(arguments)
        if status is not None:
            return status
        from snapcoder.runner import run_step  # here: commands of people do not need it, and steps start often

        return run_step(command, arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (ValueError, FileNotFoundError) as error:
        print(f"snapcoder {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `snapcoder trace … | head`
        sys.stderr.close()
        return 0


def _is_step(name: str) -> bool:
    return name.isidentifier() and (Path(__file__).parent / "steps" / f"{name}.py").is_file()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snapcoder",
        description="Watch the concepts of a language model form during pre-training.",
        epilog="Steps of the workflow (see rules/) are commands too: python -m snapcoder <step> --help.",
    )
    parser.add_argument("--version", action="version", version=f"snapcoder {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    plan = commands.add_parser("plan", help="what a run will do and cost, before it starts")
    plan.add_argument("--configfile", type=Path, default=None, help="the study (default: config/config.yaml)")
    plan.set_defaults(run=_plan)

    audit = commands.add_parser("audit", help="re-hash a study and name every altered, missing or stale file")
    audit.add_argument("study", type=Path, nargs="?", default=Path("results/default"), help="folder of the study")
    audit.add_argument(
        "--configfile", type=Path, default=None, help="the study's configuration (default: found by its name)"
    )
    audit.set_defaults(run=_audit)

    trace = commands.add_parser("trace", help="how a file came to be, as a tree")
    trace.add_argument("file", type=Path)
    trace.set_defaults(run=_trace)

    feature = commands.add_parser("feature", help="everything known about one feature")
    feature.add_argument("feature", type=int)
    feature.add_argument("--study", type=Path, default=Path("results/default"))
    feature.add_argument("--layer", type=int, default=None, help="block (default: the study's only one)")
    feature.set_defaults(run=_feature)

    read = commands.add_parser("import", help="a dictionary of llamascopium or dictionary_learning as one of ours")
    read.add_argument("source", type=Path, help="its folder or weight file")
    read.add_argument("--out", type=Path, required=True, help="where to write, e.g. dictionary.safetensors")
    read.add_argument("--steps", type=_integers, default=None, help="training step of each snapshot, e.g. 0,512,1000")
    read.add_argument("--layer", type=int, default=None, help="block of the activations")
    read.add_argument(
        "--probe", type=Path, nargs="+", default=None, help="activation caches, one per snapshot, to try it on"
    )
    read.add_argument(
        "--norms", type=_norms, default=None, help="mean activation norm of each snapshot, or raw: reads them unscaled"
    )
    read.add_argument("--folds", type=int, choices=range(4), default=None, help="how often its biases were folded")
    read.add_argument("--threshold", type=float, default=None, help="of a batchtopk dictionary that stores none")
    read.set_defaults(run=_import)

    export = commands.add_parser("export", help="one of our dictionaries in another library's format")
    export.add_argument("dictionary", type=Path)
    export.add_argument("--to", choices=("llamascopium",), required=True, help="the library")
    export.add_argument("--out", type=Path, required=True, help="folder to write")
    export.set_defaults(run=_export)

    schema = commands.add_parser("schema", help="print the configuration schema, or write the generated files")
    schema.add_argument("--write", action="store_true", help="write workflow/schemas and config/README.md")
    schema.set_defaults(run=_schema)
    return parser


def _plan(options: argparse.Namespace) -> int:
    from snapcoder.planning import plan_report

    print("\n".join(plan_report(options.configfile)))
    return 0


def _audit(options: argparse.Namespace) -> int:
    from snapcoder.planning import planned_settings
    from snapcoder.provenance.audit import audit_study

    if not (options.study / "provenance").is_dir():
        raise ValueError(f"{options.study}: no study here (it has no provenance folder); give the folder of a study")
    planned, note = planned_settings(options.study, options.configfile)
    result = audit_study(options.study, planned_settings=planned)
    for finding in result.findings:
        print(f"{finding.kind:10} {finding.path}: {finding.why}")
    print(note)
    verdict = f"{len(result.findings)} findings" if result.findings else "nothing altered, missing or stale"
    print(
        f"{options.study}: {result.n_records} records, {result.n_files} files, {result.n_bytes / 1e6:.0f} MB re-hashed: {verdict}"
    )
    return 1 if result.findings else 0


def _trace(options: argparse.Namespace) -> int:
    from snapcoder.provenance.trace import trace_file

    root = next((parent for parent in options.file.absolute().parents if (parent / "provenance").is_dir()), None)
    if root is None:
        raise ValueError(f"{options.file}: lies in no study (no folder above it has a provenance folder)")
    print("\n".join(trace_file(options.file, root)))
    return 0


def _feature(options: argparse.Namespace) -> int:
    from snapcoder.report.card_text import feature_card
    from snapcoder.storage.tables import read_table

    folders = sorted((options.study / "tables").glob("block*" if options.layer is None else f"block{options.layer}"))
    if len(folders) != 1:
        found = ", ".join(folder.name for folder in folders) or "none"
        raise ValueError(f"{options.study}: need exactly one layer, found {found}; run the study or give --layer")
    tables = {path.stem: read_table(path) for path in folders[0].glob("*.parquet")}
    if not {"feature_timing", "feature_trajectory"} <= tables.keys():
        raise ValueError(f"{folders[0]}: the feature tables are not there yet; run the study to its end")
    print(feature_card(tables, options.feature))
    return 0


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 0,512,1000") from error


def _norms(text: str) -> tuple[float, ...] | str:
    try:
        return text if text == "raw" else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither raw nor a list like 3.9,20,160") from error


def _import(options: argparse.Namespace) -> int:
    from snapcoder.interop.importing import import_dictionary
    from snapcoder.interop.options import ImportOptions
    from snapcoder.interop.probe import read_probe
    from snapcoder.storage.dictionaries import write_dictionary

    said = ImportOptions(options.steps, options.layer, options.norms, options.folds, options.threshold)
    imported = import_dictionary(options.source, said, read_probe(options.probe) if options.probe else None)
    write_dictionary(options.out, imported.dictionary, imported.provenance)
    print("\n".join([*imported.report(), f"wrote {options.out}"]))
    return 0


def _export(options: argparse.Namespace) -> int:
    from snapcoder.interop.llamascopium_export import read_ours, write_llamascopium

    notes = write_llamascopium(options.out, read_ours(options.dictionary), source=options.dictionary.name)
    print("\n".join([*notes, f"wrote {options.out}"]))
    return 0


def _schema(options: argparse.Namespace) -> int:
    from snapcoder.study.generated import generated_files

    files = generated_files()
    if not options.write:
        print(files["workflow/schemas/config.schema.json"])
        return 0
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
        print(f"wrote {name}")
    return 0
