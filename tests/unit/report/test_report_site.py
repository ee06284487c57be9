import html.parser
import json
import re
import shutil

import pytest
import study_files
from synthetic_study import HOSTILE, N_FEATURES, STEPS, synthetic_tables

from snapcoder.report.cards import feature_cards, feature_rows, plain, strongest_features
from snapcoder.report.shards import PER_SHARD, card_scripts, script_json, shard_numbers
from snapcoder.storage.hashing import file_sha256


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    tables = study_files.write_tables(root, synthetic_tables())
    drawn = study_files.run_figures(root, tables)
    return root, tables, drawn, study_files.run_report(root, tables, drawn)


class Collector(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.links, self.problems = [], set(), [], []
        self.open = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.ids.add(given.get("id"))
        self.links += [given[name] for name in ("href", "src") if given.get(name)]
        self.problems += [name for name in given if name.startswith("on")]
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}>")


def parsed(path):
    collector = Collector()
    collector.feed(path.read_text(encoding="utf-8"))
    return collector


def payload(path):
    """Return the JSON inside one of the data scripts."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


def test_the_page_is_well_formed_and_every_link_leads_somewhere(site):
    _, _, _, folder = site
    page = parsed(folder / "index.html")
    assert page.problems == []
    for link in page.links:
        assert not link.startswith(("http:", "https:", "//")), "the page must not need a network"
        assert link[1:] in page.ids if link.startswith("#") else (folder / link).is_file(), link


def test_all_figures_findings_and_columns_are_on_the_page(site):
    _, tables, _, folder = site
    text = (folder / "index.html").read_text(encoding="utf-8")
    told = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    assert all(f'id="finding-{finding["key"]}"' in text for finding in told["findings"])
    assert text.count("<figure id=") == 18
    assert all(f'id="table-{path.stem}"' in text for path in tables)
    assert "interval-censored: (last snapshot absent, first snapshot present]" in text


def test_hostile_tokens_and_names_are_never_markup(site, tmp_path):
    _, tables, drawn, folder = site
    renamed = study_files.run_report(tmp_path, tables, drawn, study=f"study {HOSTILE}")
    landing = study_files.run_landing(tmp_path, [2], study=f"study {HOSTILE}")
    for path in [*folder.rglob("*"), *renamed.rglob("*"), landing]:
        if path.suffix in (".html", ".js", ".css", ".svg"):
            text = path.read_text(encoding="utf-8")
            assert "<img src=x" not in text, path.name
            assert "</script><" not in text.replace("<script", ""), path.name
    assert "script" not in set(parsed(renamed / "index.html").tags[20:])
    cards = payload(folder / "data" / "cards-00.js")
    assert cards["0"]["examples"][0]["tokens"][3] == HOSTILE, "the text itself arrives unharmed"


def test_scripts_insert_text_and_never_markup(site):
    _, _, _, folder = site
    script = (folder / "report.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|fetch\(", script)
    assert "default-src 'none'" in (folder / "index.html").read_text(encoding="utf-8")


def test_json_in_scripts_can_close_no_tag_and_end_no_line():
    value = {"token": "</script>\u2028\u2029<!--&"}
    text = script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_the_manifest_lists_every_other_file_with_its_hash(site):
    _, _, _, folder = site
    listed = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == set(listed) | {"manifest.json", "findings.json"}
    assert all(file_sha256(folder / name) == sha256 for name, sha256 in listed.items())


def test_the_same_inputs_give_the_same_bytes_and_leave_nothing_stale(site, tmp_path):
    root, tables, drawn, folder = site
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    copied = tmp_path / "study"
    shutil.copytree(root, copied)
    stale = copied / "report" / "block2" / "data" / "cards-99.js"
    stale.write_text("old")
    moved = [copied / path.relative_to(root) for path in tables]
    again = study_files.run_report(copied, moved, [copied / path.relative_to(root) for path in drawn])
    assert not stale.exists()
    assert {path.relative_to(again): path.read_bytes() for path in again.rglob("*") if path.is_file()} == before


def test_the_figures_step_refuses_outputs_that_are_not_the_catalogue(site, tmp_path):
    from snapcoder.job import Job
    from snapcoder.steps.figures import figures

    _, tables, _, _ = site
    job = Job("figures", {"tables": tuple(tables)}, {"figures": (tmp_path / "old.svg",)}, {}, 1, {})
    with pytest.raises(ValueError, match=r"do not fit the catalogue of figures .*old\.svg"):
        figures(job)


def test_only_the_strongest_features_get_a_card_and_all_get_a_row(site, tmp_path):
    _, tables, drawn, _ = site
    folder = study_files.run_report(tmp_path, tables, drawn, max_cards=7)
    cards = payload(folder / "data" / "cards-00.js")
    features = payload(folder / "data" / "summary.js")["features"]
    trajectory = synthetic_tables()["feature_trajectory"]
    strength = trajectory.groupby("feature")["contribution"].max()
    assert set(map(int, cards)) == set(strength.nlargest(7).index)
    assert len(features["feature"]) == N_FEATURES
    assert [shard is not None for shard in features["shard"]] == [str(f) in cards for f in features["feature"]]


def test_a_report_of_empty_tables_still_opens(tmp_path, no_tables):
    tables = study_files.write_tables(tmp_path, no_tables)
    folder = study_files.run_report(tmp_path, tables, [])
    assert parsed(folder / "index.html").problems == []
    assert payload(folder / "data" / "summary.js")["features"] == {"feature": []}


def test_cards_hold_what_the_tables_say(study_tables):
    cards = feature_cards(study_tables, [1, 3])
    trajectory = study_tables["feature_trajectory"].query("feature == 1").sort_values("step")
    assert cards[1]["norm"] == plain(trajectory["norm"])
    assert len(cards[1]["rate"]) == len(STEPS)
    assert cards[1]["examples"][0]["acts"] == [[1, 0.5], [3, 4], [6, 0.2]]
    assert cards[1]["logits"]["final"]["promotes"][0] == [HOSTILE, 3]
    assert cards[1]["tasks"] == []
    assert cards[3]["tasks"][0] == {
        "task": "agreement_his_their", "step": 1024, "rank": 1, "attr": 1.2, "se": 0.05, "kept": 4
    }  # fmt: skip


def test_rows_are_searchable_by_token_and_know_their_tasks(study_tables):
    rows = feature_rows(study_tables, {3: 0})
    assert "david" not in rows["text"][3].lower()
    assert " said" in rows["text"][3].split("\u0001")
    assert rows["tasks"][3] == ["agreement_his_their"]
    assert rows["shard"][:5] == [None, None, None, 0, None]
    assert len(rows["line"][0]) == len(STEPS)
    assert rows["line"][1][-1] == "z"


def test_thirty_thousand_features_are_split_over_shards():
    features = list(range(0, 32_000, 16))
    shard_of = shard_numbers(features)
    scripts = card_scripts({feature: {"feature": feature} for feature in features}, shard_of)
    assert len(scripts) == 2000 // PER_SHARD
    assert max(script.count('"feature"') for script in scripts.values()) == PER_SHARD
    assert strongest_features(synthetic_tables()["feature_trajectory"].iloc[:0], most=5) == []


def test_one_layer_is_opened_at_once_and_several_are_listed(tmp_path):
    assert 'content="0; url=block2/index.html"' in study_files.run_landing(tmp_path, [2]).read_text()
    text = study_files.run_landing(tmp_path, [1, 2]).read_text()
    assert "http-equiv" not in text
    assert 'href="block1/index.html"' in text
    assert "after block 2" in text
