import json
import re
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest

from snapcoder.figures.attribution_truth import best_steps
from snapcoder.figures.catalogue import CATALOGUE, FIGURES
from snapcoder.figures.drawing import DRAW, draw
from snapcoder.figures.save import figure_bytes
from snapcoder.provenance.embedded import embedded_provenance
from snapcoder.tables.attribution import primary_attribution
from snapcoder.tables.catalogue import TABLES

PROVENANCE = {"step": "figures", "settings": {"study": "a study with – and ω"}, "code": "abc"}


def texts(canvas):
    return " ".join(item.get_text() for item in canvas.findobj(lambda artist: hasattr(artist, "get_text")))


def test_the_catalogue_names_every_drawing_once_and_only_declared_tables():
    assert list(FIGURES) == [figure.name for figure in CATALOGUE]
    assert set(FIGURES) == set(DRAW)
    assert len(set(FIGURES)) == len(FIGURES)
    assert {name for figure in CATALOGUE for name in figure.tables} <= set(TABLES)
    assert all(len(figure.caption) > 60 and not figure.title.endswith((".", "?")) for figure in CATALOGUE)


@pytest.mark.parametrize("figure", CATALOGUE, ids=FIGURES)
def test_every_figure_draws_from_full_tables_without_saying_not_found(figure, study_tables):
    said = re.sub(r"not found: no (transient|flat|dense) feature", "", texts(draw(figure, study_tables)))
    assert "not found" not in said


@pytest.mark.parametrize("figure", CATALOGUE, ids=FIGURES)
def test_every_figure_says_not_found_when_tables_are_empty_or_missing(figure, no_tables):
    assert "not found: " in texts(draw(figure, no_tables))
    assert "not found: " in texts(draw(figure, {}))


@pytest.mark.parametrize("name", ["phases", "norm_heatmap", "complexity_onset"])
def test_the_same_tables_give_the_same_bytes_and_no_date(name, study_tables):
    figure = CATALOGUE[FIGURES.index(name)]
    first = figure_bytes(draw(figure, study_tables), provenance=PROVENANCE, title=figure.title)
    again = figure_bytes(draw(figure, study_tables), provenance=PROVENANCE, title=figure.title)
    assert first == again
    svg, png = first
    assert b"dc:date" not in svg
    assert b"Software" not in png
    assert b"matplotlib" not in svg.lower().split(b"<defs")[0]


def test_provenance_travels_inside_both_formats(study_tables, tmp_path):
    figure = CATALOGUE[FIGURES.index("task_performance")]
    svg, png = figure_bytes(draw(figure, study_tables), provenance=PROVENANCE, title=figure.title)
    (tmp_path / "f.png").write_bytes(png)
    assert embedded_provenance(tmp_path / "f.png") == PROVENANCE
    described = next(ElementTree.fromstring(svg).iter("{http://purl.org/dc/elements/1.1/}description"))
    assert json.loads(described.text) == PROVENANCE


def test_a_task_called_like_a_formula_is_drawn_as_text(study_tables):
    renamed = study_tables["task_performance"].assign(task=lambda frame: frame["task"] + "$\\frac{")
    figure = CATALOGUE[FIGURES.index("task_performance")]
    canvas = draw(figure, {"task_performance": renamed})
    figure_bytes(canvas, provenance=PROVENANCE, title=figure.title)
    assert "induction$\\frac{" in texts(canvas)


def test_no_text_is_smaller_than_eight_points(study_tables):
    for figure in CATALOGUE:
        canvas = draw(figure, study_tables)
        sizes = [
            item.get_fontsize()
            for item in canvas.findobj(lambda artist: hasattr(artist, "get_fontsize"))
            if item.get_text()
        ]
        assert min(sizes) >= 8, figure.name


def test_a_study_of_one_snapshot_still_draws(study_tables):
    single = {name: frame[frame["step"] == 0] if "step" in frame else frame for name, frame in study_tables.items()}
    single["rotation_summary"] = study_tables["rotation_summary"].query("step_a == 0 and step_b == 0")
    for name in ("direction_rotation", "rotation_intervals", "turning_points"):
        single[name] = study_tables[name].iloc[:0]
    for figure in CATALOGUE:
        figure_bytes(draw(figure, single), provenance=PROVENANCE, title=figure.title)
    assert isinstance(single["snapshots"], pd.DataFrame)


def test_attribution_is_compared_with_the_truth_at_the_snapshot_that_does_the_task_best(study_tables):
    quality = primary_attribution(study_tables["attribution_quality"])
    performance = study_tables["task_performance"]
    (task,) = set(quality.loc[quality["status"] == "attributed", "task"])
    of_task = performance[performance["task"] == task]
    best = int(of_task.sort_values("accuracy")["step"].iloc[-1])
    assert best_steps(quality, performance) == {task: best}
    figure = CATALOGUE[FIGURES.index("attribution_truth")]
    said = texts(draw(figure, study_tables))
    assert "r 0.97, held out 0.80" in said
    assert "slope 1.10, n 5" in said
