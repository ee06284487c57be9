"""What the configuration plans for the recorded jobs of a sweep, as the audit asks."""

import json
from pathlib import Path

import pytest

from snapcoder.planning import planned_settings
from snapcoder.study.load import read_study
from snapcoder.study.settings import step_settings
from snapcoder.study.sweep import SweepPoint

POINT = SweepPoint("batchtopk", 64, 10.0, 0)


@pytest.fixture
def configuration(tmp_path):
    file = tmp_path / "swept.yaml"
    file.write_text("study: swept\nsweep: {n_features: [64], arms: {batchtopk: [10, 20]}, steps: 5}\n")
    return file


def planned(file, step, recorded):
    settings_of, _ = planned_settings(Path("results/swept"), file)
    place = f"provenance/{step}.block2.batchtopk.F64.at10.seed0{'.step64' if step == 'sweep_sae' else ''}.json"
    return settings_of({"step": step, "settings": json.loads(recorded)}, place)


@pytest.mark.parametrize("step, snapshot", [("sweep_point", None), ("sweep_sae", 64)])
def test_a_recorded_point_is_compared_with_its_own_settings(configuration, step, snapshot):
    study = read_study("config/config.yaml", configuration)
    recorded = step_settings(study, step, layer=2, snapshot=snapshot, point=POINT)
    assert planned(configuration, step, recorded) == recorded
    configuration.write_text(configuration.read_text().replace("steps: 5", "steps: 6"))
    now = json.loads(planned(configuration, step, recorded))
    assert now["crosscoder"].pop("steps") == 6
    was = json.loads(recorded)
    assert was["crosscoder"].pop("steps") == 5
    assert now == was


def test_a_point_that_is_no_longer_swept_is_not_planned(configuration):
    study = read_study("config/config.yaml", configuration)
    recorded = step_settings(study, "sweep_point", layer=2, point=POINT)
    configuration.write_text(configuration.read_text().replace("[10, 20]", "[20]"))
    assert planned(configuration, "sweep_point", recorded) is None
