import json
import shutil

import pytest

from snapcoder.provenance.audit import ALTERED, MISSING, STALE, UNRECORDED, audit_study
from snapcoder.provenance.embedded import embedded_provenance
from snapcoder.provenance.record import ProvenanceError, build_core, build_record, read_records, study_root
from snapcoder.provenance.trace import trace_file
from snapcoder.storage.atomic import write_text
from snapcoder.storage.hashing import canonical_json
from snapcoder.storage.json_file import write_json

CODE = {"corpus": "c0de", "ngrams": "c0de"}


@pytest.fixture(autouse=True)
def _fixed_code(monkeypatch):
    monkeypatch.setattr("snapcoder.provenance.audit.step_fingerprint", lambda step: CODE[step])


def run(root, step, inputs, output, settings):
    core = build_core(step, settings=settings, code="c0de", inputs=inputs, root=root)
    write_json(root / output, {"made by": step, "value": settings.get("value", 0)}, core)
    record = build_record(core, outputs=[root / output], root=root, argv=[step], started=0.0, threads=1)
    write_text(root / "provenance" / f"{step}.json", canonical_json(record) + "\n")


@pytest.fixture
def study(tmp_path):
    root = tmp_path / "results" / "toy"
    text = tmp_path / "text.txt"
    text.write_text("In the beginning")
    run(root, "corpus", {"files": [text]}, "corpus/tokens.json", {"value": 1})
    run(root, "ngrams", {"tokens": [root / "corpus/tokens.json"]}, "tables/ngrams.json", {"value": 2})
    return root


def kinds(result):
    return {(finding.kind, finding.path) for finding in result.findings}


def test_an_untouched_study_has_no_findings(study):
    result = audit_study(study)
    assert result.findings == ()
    assert (result.n_records, result.n_files) == (2, 2)


def test_the_same_study_moved_elsewhere_has_no_findings(study, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(study, moved)
    assert audit_study(moved).findings == ()


def test_one_changed_byte_is_named(study):
    file = study / "tables/ngrams.json"
    file.write_text(file.read_text().replace('"value": 2', '"value": 3'))
    assert kinds(audit_study(study)) == {(ALTERED, "tables/ngrams.json")}


def test_a_missing_file_is_named(study):
    (study / "tables/ngrams.json").unlink()
    assert kinds(audit_study(study)) == {(MISSING, "tables/ngrams.json")}


def test_an_edited_record_is_named(study):
    record = json.loads((study / "provenance/ngrams.json").read_text())
    record["core"]["settings"]["value"] = 5
    (study / "provenance/ngrams.json").write_text(canonical_json(record))
    assert (ALTERED, "provenance/ngrams.json") in kinds(audit_study(study))


def test_a_file_edited_together_with_its_hash_is_still_caught_by_its_reader(study):
    file = study / "corpus/tokens.json"
    file.write_text(file.read_text().replace('"value": 1', '"value": 9'))
    record = json.loads((study / "provenance/corpus.json").read_text())
    from snapcoder.storage.hashing import file_sha256

    record["files"][0]["sha256"] = file_sha256(file)
    (study / "provenance/corpus.json").write_text(canonical_json(record))
    assert (STALE, "tables/ngrams.json") in kinds(audit_study(study))


def test_an_upstream_file_made_again_behind_the_workflow_makes_its_readers_stale(study):
    run(study, "corpus", {}, "corpus/tokens.json", {"value": 7})
    assert kinds(audit_study(study)) == {(STALE, "tables/ngrams.json")}


def test_a_changed_source_outside_the_study_is_named(study, tmp_path):
    (tmp_path / "text.txt").write_text("In the end")
    assert kinds(audit_study(study)) == {(STALE, "corpus/tokens.json")}


def test_changed_code_and_settings_are_named_with_the_key(study, monkeypatch):
    monkeypatch.setitem(CODE, "ngrams", "f00d")
    planned = {"corpus": '{"value":4}', "ngrams": None}
    result = audit_study(study, planned_settings=lambda core, place: planned[core["step"]])
    assert kinds(result) == {(STALE, "corpus/tokens.json"), (STALE, "tables/ngrams.json")}
    assert "value" in next(f.why for f in result.findings if f.path == "corpus/tokens.json")


def test_a_file_without_a_record_is_named(study):
    (study / "tables/extra.json").write_text("{}")
    assert kinds(audit_study(study)) == {(UNRECORDED, "tables/extra.json")}


def test_a_report_shard_that_differs_from_its_manifest_is_named(study):
    folder = study / "report" / "block2"
    folder.mkdir(parents=True)
    (folder / "data.js").write_text("x")
    (folder / "manifest.json").write_text(json.dumps({"files": {"data.js": "0" * 64, "gone.js": "0" * 64}}))
    found = kinds(audit_study(study))
    assert (ALTERED, "report/block2/data.js") in found
    assert (MISSING, "report/block2/gone.js") in found


def test_a_step_refuses_an_input_that_is_not_what_its_producer_wrote(study):
    file = study / "corpus/tokens.json"
    file.write_text(file.read_text() + " ")
    with pytest.raises(ProvenanceError, match=r"tokens\.json: was changed after step corpus wrote it"):
        build_core("ngrams", settings={}, code="c0de", inputs={"tokens": [file]}, root=study)


def test_an_unreadable_record_is_named(study):
    (study / "provenance/corpus.json").write_text("{")
    with pytest.raises(ProvenanceError, match=r"corpus\.json: not a readable record"):
        read_records(study)
    assert (ALTERED, "provenance/corpus.json") in kinds(audit_study(study))


def test_trace_prints_the_chain_to_its_roots(study):
    text = "\n".join(trace_file(study / "tables/ngrams.json", study))
    assert text.index("ngrams") < text.index("corpus/tokens.json") < text.index("text.txt")
    assert "given from outside the study" in text
    with pytest.raises(ValueError, match="no record"):
        trace_file(study / "provenance/corpus.json", study)


def test_the_core_is_the_same_twice_and_lies_in_the_file(study):
    arguments = {"settings": {"value": 2}, "code": "c0de", "inputs": {"tokens": [study / "corpus/tokens.json"]}}
    first, second = (build_core("ngrams", root=study, **arguments) for _ in range(2))
    assert first == second == embedded_provenance(study / "tables/ngrams.json")


def test_the_study_root_is_found_from_a_record():
    assert str(study_root("results/toy/provenance/a/b.json")) == "results/toy"
    with pytest.raises(ValueError, match="provenance"):
        study_root("results/toy/b.json")


def test_a_record_that_vanishes_while_records_are_read_is_none(study, monkeypatch):
    from pathlib import Path

    listed = sorted((study / "provenance").glob("*.json"))
    (study / "provenance" / "corpus.json").unlink()
    monkeypatch.setattr(Path, "rglob", lambda *_: iter(listed))
    assert set(read_records(study)) == {"provenance/ngrams.json"}


def test_a_record_that_is_being_written_just_now_is_none(study):
    (study / "provenance" / ".ngrams.part.json").write_text('{"core": {')  # another job's, half written
    assert set(read_records(study)) == {"provenance/corpus.json", "provenance/ngrams.json"}
    assert audit_study(study).findings == ()
