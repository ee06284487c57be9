"""Pages of abilities: well formed, linked, readable without colours, harmless to hostile tokens; and their findings."""

import numpy as np
import pandas as pd
import pytest
import study_files
from synthetic_study import HOSTILE, STEPS
from test_report_site import parsed

from snapcoder.report.findings import Tables
from snapcoder.report.findings_carriers import carrier_findings
from snapcoder.report.marked_prompts import marked_prompts, shade, visible
from snapcoder.report.task_pages import carrier_rows, heat_rows, task_rows, task_slugs

TASK = "agreement_his_their"


def positions():
    rows = [
        {"task": TASK, "step": step, "example": example, "position": position, "token": token, "feature": feature,
         "attr": value * (1 if feature == -2 else 0.5)}
        for step in STEPS[-2:]
        for example in (3, 5)
        for feature in (-2, -1, 3, 7)
        for position, (token, value) in enumerate([(" the", 0.1), (HOSTILE, -0.4), ("\n", 0.0), (" king", 0.8)])
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def site(tmp_path_factory, study_tables):
    root = tmp_path_factory.mktemp("study")
    tables = {name: frame for name, frame in study_tables.items() if name != "attribution_positions"}
    paths = study_files.write_tables(root, tables)
    extra = root / "tables" / "block2" / "attribution_positions.parquet"
    positions().to_parquet(extra)
    return study_files.run_report(root, [*paths, extra], [])


def test_a_task_that_is_carried_has_a_page_whose_links_lead_somewhere(site):
    page = parsed(site / f"task-{TASK}.html")
    assert page.problems == []
    assert f"task-{TASK}.html" in parsed(site / "index.html").links
    for link in page.links:
        file, _, anchor = link.partition("#")
        assert not link.startswith(("http:", "https:", "//"))
        assert (site / file).is_file() if file else anchor in page.ids, link
    assert not list(site.glob("task-induction*"))


def test_the_page_has_figure_carriers_leads_prompts_and_findings(site):
    text = (site / f"task-{TASK}.html").read_text(encoding="utf-8")
    assert (site / "figures" / f"task-{TASK}.svg").is_file()
    assert 'href="index.html#feature-3"' in text
    assert "step 400 [320, 500]" in text
    assert "leads clearly" in text
    assert "Different features dominate" in text
    assert "style=" not in text, "the content policy would block it"


def test_hostile_tokens_are_text_on_the_page_and_colours_are_told_in_words(site):
    text = (site / f"task-{TASK}.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert text.count("&lt;/script&gt;") > 2
    assert '<span class="helps-8"> king</span>' in text
    assert 'class="hurts-4"' in text
    assert "+0.80" in text
    assert "⏎" in text


def test_without_positions_the_page_says_so(tmp_path, study_tables):
    tables = {name: frame for name, frame in study_tables.items() if name != "attribution_positions"}
    folder = study_files.run_report(tmp_path, study_files.write_tables(tmp_path, tables), [])
    assert "no attribution by position" in (folder / f"task-{TASK}.html").read_text(encoding="utf-8")


def test_prompts_are_those_of_the_last_snapshot_all_features_first_then_the_strongest():
    found = marked_prompts(positions())
    assert found["step"] == STEPS[-1]
    assert [line["feature"] for line in found["examples"][0]["lines"]] == [None, 3, 7]
    whole = found["examples"][0]["lines"][0]
    assert [token["shade"] for token in whole["tokens"]] == ["helps-1", "hurts-4", "", "helps-8"]
    assert [token["attr"] for token in whole["named"]] == ["+0.80", "−0.40", "+0.10"]
    assert marked_prompts(positions().iloc[:0]) is None


def test_shades_follow_sign_and_size_and_need_something_to_compare_with():
    assert [shade(value, 1.0) for value in (1.0, 0.5, 0.05, 0.0, -1.0)] == ["helps-8", "helps-4", "", "", "hurts-8"]
    assert shade(0.0, 0.0) == shade(float("nan"), 1.0) == ""
    assert [visible(token) for token in ("", "\n", " a\t")] == ["∅", "⏎", " a⇥"]


def test_names_of_pages_are_safe_and_never_shared():
    report = pd.DataFrame({"task": ["a/b", "a b", "../x", "<b>"]})
    slugs = task_slugs(Tables({"attribution_report": report}))
    assert slugs == {"../x": "x", "<b>": "b", "a b": "a-b", "a/b": "a-b-2"}


def test_the_heat_map_says_every_attribution_and_marks_one_leader_per_snapshot(study_tables):
    heat = heat_rows(study_tables, TASK)
    attr = study_tables["relie"].set_index(["step", "feature"])["attr"]
    for row in heat["rows"]:
        for at, cell in zip(heat["steps"], row["cells"], strict=True):
            value = float(cell["text"].replace("−", "-"))
            assert value == pytest.approx(attr[(int(at.replace(",", "")), row["feature"])], abs=0.006)
    marks = np.array([[bool(cell["mark"]) for cell in row["cells"]] for row in heat["rows"]])
    assert (marks.sum(axis=0) == 1).all()


def test_rows_of_tasks_and_carriers_say_what_the_tables_say(study_tables):
    rows = {row["task"]: row for row in task_rows(Tables(study_tables))}
    assert rows["induction"]["slug"] is None
    assert rows["induction"]["since"] == "not acquired"
    assert rows[TASK]["age"] == "step 400 [320, 500]"
    carriers = carrier_rows(study_tables, TASK)
    shares = study_tables["attribution_report"].sort_values("share_mean", ascending=False)
    assert [row["feature"] for row in carriers] == shares["feature"].tolist()


def judged(tables):
    return {finding.key: finding for finding in carrier_findings(Tables(tables))}


def test_rivals_that_cannot_be_told_apart_are_undecidable_and_a_kept_lead_is_no_handover(study_tables):
    assert judged(study_tables)["dominance"].verdict == "found"
    assert "7 → 3" in judged(study_tables)[f"dominance_{TASK}"].sentence
    rows = study_tables["handover"].assign(from_feature=np.nan, from_step=np.nan)
    kept = judged({**study_tables, "handover": rows.assign(told_apart=True)})
    assert kept[f"dominance_{TASK}"].verdict == kept["dominance"].verdict == "not_found"
    noise = judged({**study_tables, "handover": rows.assign(told_apart=False)})
    assert noise[f"dominance_{TASK}"].verdict == noise["dominance"].verdict == "undecidable"
    assert "tell a hand-over from noise" in noise["dominance"].sentence


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(-0.5, -0.1, "found"), (-0.5, 0.1, "undecidable"), (0.1, 0.5, "not_found")]
)
def test_carriers_lead_or_lag_only_when_the_interval_excludes_zero(study_tables, low, high, verdict):
    timing = study_tables["task_feature_timing"].assign(lag=(low + high) / 2, lag_ci_lo=low, lag_ci_hi=high)
    found = judged({**study_tables, "task_feature_timing": timing})
    assert found[f"carriers_{TASK}"].verdict == found["carriers"].verdict == verdict
    assert "alive features of the same firing rate" in found[f"carriers_{TASK}"].sentence


def test_a_task_without_a_date_has_carriers_but_no_lead(study_tables):
    timing = study_tables["task_feature_timing"].assign(acquisition=np.nan)
    found = judged({**study_tables, "task_feature_timing": timing})
    assert found[f"carriers_{TASK}"].verdict == found["carriers"].verdict == "undecidable"
