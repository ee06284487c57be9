import pytest

from snapcoder.study.controls import ControlSettings, control_config, controls_of
from snapcoder.study.load import StudyError, load_study
from snapcoder.study.settings import step_settings, studies_compared

ALL = {
    "crosscoder_seeds": [1, 2], "model_seeds": [1], "warmup_steps": [400], "untrained": 3, "token_centred": True,
    "sae_series": True,
}  # fmt: skip


def derived(config, name):
    study = load_study(config)
    chosen = {control.name: control for control in controls_of(study.controls, layers=study.activations.layers)}
    return load_study(control_config(config, chosen[name]))


def test_a_study_has_no_controls_unless_it_asks_for_some():
    assert controls_of(ControlSettings(), layers=(2,)) == ()


def test_every_control_changes_only_what_it_says():
    config = {"controls": ALL, "snapshots": {"added": [24]}, "sweep": {"n_features": [64], "arms": {"batchtopk": [4]}}}
    study = load_study(config)
    seed, model, warmup = (derived(config, name) for name in ("seed2", "model_seed1", "warmup400"))
    assert (seed.crosscoder.seed, model.pretrain.seed, warmup.pretrain.warmup_steps) == (2, 1, 400)
    for other in (seed, model, warmup):
        assert other.snapshots.steps == study.snapshots.steps
        assert other.snapshots.added == ()
        assert other.sweep.n_features == ()
        assert other.controls == ControlSettings()
    assert seed.pretrain == study.pretrain
    assert model.crosscoder == study.crosscoder == warmup.crosscoder


def test_untrained_models_stand_where_snapshots_do_at_any_layer():
    config = {"controls": {"untrained": 3}, "activations": {"layers": [3]}}
    assert derived(config, "untrained").snapshots.steps == (0, 1, 2)


def test_the_settings_of_jobs_that_a_control_shares_are_the_studys_own():
    config = {"controls": ALL}
    study, seed = load_study(config), derived(config, "seed1")
    for step in ("pretrain", "activations", "behaviour", "trajectories", "timing"):
        assert step_settings(study, step, layer=2, snapshot=0) == step_settings(seed, step, layer=2, snapshot=0)
    assert step_settings(study, "crosscoder", layer=2) != step_settings(seed, "crosscoder", layer=2)


def test_compared_studies_say_their_warm_up_and_whether_they_read_text():
    said = {row["name"]: row for row in studies_compared(load_study({"controls": ALL}))}
    assert list(said) == ["study", "seed1", "seed2", "model_seed1", "warmup400", "token_centred", "untrained"]
    assert said["warmup400"]["warmup_steps"] == 400
    assert said["study"]["warmup_steps"] == 100
    assert said["untrained"]["warmup_steps"] is None
    assert [name for name, row in said.items() if row["has_text"]] == ["study", "model_seed1", "warmup400"]


@pytest.mark.parametrize(
    "controls, said",
    [
        ({"untrained": 1}, "controls.untrained"),
        ({"crosscoder_seeds": [0]}, "controls.crosscoder_seeds: 0 is the study's own"),
        ({"model_seeds": [0]}, "controls.model_seeds: 0 is the study's own"),
        ({"warmup_steps": [100]}, "controls.warmup_steps: 100 is the study's own"),
        ({"warmup_steps": [2000]}, "controls.warmup_steps: 2000 is not below"),
        ({"seeds": [1]}, "controls.seeds: unknown key"),
    ],
)
def test_impossible_controls_are_refused_by_key(controls, said):
    with pytest.raises(StudyError) as refused:
        load_study({"controls": controls})
    assert said in str(refused.value)


def test_models_that_are_not_trained_here_cannot_be_trained_again(tmp_path):
    for step in (0, 1):
        (tmp_path / f"step{step}").mkdir()
        (tmp_path / f"step{step}" / "config.json").write_text('{"num_hidden_layers": 4}')
    local = {"source": "local", "steps": [0, 1], "local": {"pattern": f"{tmp_path}/step{{step}}"}}
    with pytest.raises(StudyError, match=r"controls\.model_seeds: only models that are trained here"):
        load_study({"snapshots": local, "controls": {"model_seeds": [1]}})
