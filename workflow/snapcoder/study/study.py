"""The whole study: one section per room."""

from dataclasses import dataclass

from snapcoder.study.activations import ActivationSettings
from snapcoder.study.analysis import (
    BehaviourSettings,
    EvolutionSettings,
    FeatureSettings,
    PhaseSettings,
    ReportSettings,
    TaskSettings,
)
from snapcoder.study.context import ContextSettings
from snapcoder.study.controls import ControlSettings
from snapcoder.study.corpus import CorpusSettings, NgramSettings
from snapcoder.study.crosscoder import CrosscoderSettings
from snapcoder.study.explain import ExplainSettings
from snapcoder.study.field import setting
from snapcoder.study.order import FormationSettings, OrderSettings
from snapcoder.study.presence import PresenceSettings
from snapcoder.study.snapshots import PretrainSettings, SnapshotSettings
from snapcoder.study.sweep import SweepSettings
from snapcoder.study.timing import TimingSettings


@dataclass(frozen=True)
class Study:
    """Everything that one configuration file says."""

    study: str = setting("default", "Name of the study: results land in results/<study>.")
    corpus: CorpusSettings = setting(CorpusSettings, "Which text the study reads.")
    ngrams: NgramSettings = setting(NgramSettings, "The n-gram models that the statistical phase is measured against.")
    snapshots: SnapshotSettings = setting(SnapshotSettings, "Which snapshots, from where.")
    pretrain: PretrainSettings = setting(PretrainSettings, "The language model that source: pretrain trains.")
    activations: ActivationSettings = setting(ActivationSettings, "Which activations are cached.")
    crosscoder: CrosscoderSettings = setting(CrosscoderSettings, "The dictionary and its training.")
    sweep: SweepSettings = setting(SweepSettings, "Dictionaries of other sizes, sparsities, arms and seeds to compare.")
    controls: ControlSettings = setting(ControlSettings, "The same pipeline with one thing changed, beside the study.")
    evolution: EvolutionSettings = setting(EvolutionSettings, "When a feature counts as present, alive, turned.")
    timing: TimingSettings = setting(TimingSettings, "Onset distributions, and what they depend on.")
    presence: PresenceSettings = setting(PresenceSettings, "Presence by evidence beside the decoder norm.")
    formation: FormationSettings = setting(FormationSettings, "When features form in the activations themselves.")
    order: OrderSettings = setting(OrderSettings, "Tests of what comes before what.")
    behaviour: BehaviourSettings = setting(BehaviourSettings, "Scoring the snapshots' own predictions.")
    phases: PhaseSettings = setting(PhaseSettings, "Cutting training into phases.")
    tasks: TaskSettings = setting(TaskSettings, "Abilities and what carries them.")
    features: FeatureSettings = setting(FeatureSettings, "What is shown of each feature.")
    context: ContextSettings = setting(ContextSettings, "How many tokens of context features need.")
    explain: ExplainSettings = setting(ExplainSettings, "Explanations by a language model; off by default.")
    report: ReportSettings = setting(ReportSettings, "The report.")
