"""Which format a task file has, told from its content, and what it holds.

Known: JSON lines of sparse feature circuits (`files`), BLiMP (JSON lines with sentence_good and sentence_bad), CLAMS
(lines `True<tab>sentence` and `False<tab>sentence`), and MultiBLiMP (a table with the columns sen and wrong_sen; tabs,
commas or JSON lines).
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from snapcoder.tasks.files import Candidate, parse_task_lines
from snapcoder.tasks.minimal_pairs import MinimalPair

_KNOWN = (
    "known are JSON lines with clean_prefix, patch_prefix, clean_answer and patch_answer (sparse feature circuits), "
    "JSON lines with sentence_good and sentence_bad (BLiMP), lines True<tab>sentence and False<tab>sentence (CLAMS), "
    "and tables with the columns sen and wrong_sen (MultiBLiMP)"
)
_COLUMNS = (("sentence_good", "sentence_bad"), ("sen", "wrong_sen"))
_TWO_PREFIX = ("two_prefix_prefix_good", "two_prefix_prefix_bad", "two_prefix_word")


def parse_task_file(text: str, *, file: str, task: str) -> list[Candidate] | list[MinimalPair]:
    """Return what a task file holds; `file` names it in errors, `task` is the task of lines that name none themselves.

    Raises ValueError naming the file, the line and what is wrong with it, or the keys that fit no known format.
    """
    lines = text.lstrip("\ufeff").split("\n")
    number, first = next(((n, line) for n, line in enumerate(lines, start=1) if line.strip()), (0, ""))
    if not number:
        raise ValueError(f"{file}: empty task file; remove it from tasks.files")
    if first.lstrip().startswith("{"):
        keys = set(_json_object(first, file, number))
        columns = next((pair for pair in _COLUMNS if set(pair) <= keys), None)
        if columns is not None:
            rows = [(n, _json_object(line, file, n)) for n, line in enumerate(lines, start=1) if line.strip()]
            return list(_pairs(rows, columns, file, task))
        if keys & {"clean_prefix", "patch_prefix", "clean_answer", "patch_answer"}:
            return parse_task_lines("\n".join(lines), file=file, task=task)
        raise ValueError(f"{file}: line {number} has the keys {', '.join(sorted(keys)) or 'none'}; {_KNOWN}")
    if first.split("\t")[0].strip() in ("True", "False") and "\t" in first:
        return list(_judged(lines, file, task))
    return list(_table("\n".join(lines), file, task, number, first))


def task_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each file: its stem, with its folder before it where two files share a stem."""
    stems = [path.stem for path in paths]
    return [f"{path.parent.name}_{path.stem}" if stems.count(path.stem) > 1 else path.stem for path in paths]


def _json_object(line: str, file: str, number: int) -> dict[str, object]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: line {number} is not valid JSON ({error.msg})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file}: line {number} is not a JSON object")
    return values


def _pairs(
    rows: Sequence[tuple[int, Mapping[str, object]]], columns: tuple[str, str], file: str, task: str
) -> Iterator[MinimalPair]:
    for number, values in rows:
        for column in columns:
            if not isinstance(values.get(column), str) or not str(values[column]).strip():
                raise ValueError(f"{file}: line {number} needs {column} with a non-empty string")
        beginnings = None
        if all(isinstance(values.get(key), str) and values[key] for key in _TWO_PREFIX):
            beginnings = (str(values[_TWO_PREFIX[0]]), str(values[_TWO_PREFIX[1]]))
        yield MinimalPair(
            task=_named(values, task),
            case=str(values.get("linguistics_term") or values.get("phenomenon") or ""),
            good=str(values[columns[0]]),
            bad=str(values[columns[1]]),
            beginnings=beginnings,
            word=str(values[_TWO_PREFIX[2]]) if beginnings else "",
        )


def _named(values: Mapping[str, object], task: str) -> str:
    """Return the paradigm that a BLiMP line names, language and phenomenon of a MultiBLiMP line, or `task`."""
    if values.get("UID"):
        return str(values["UID"])
    if values.get("phenomenon") and values.get("lang"):
        return f"{values['lang']}_{values['phenomenon']}"
    return task


def _judged(lines: Sequence[str], file: str, task: str) -> Iterator[MinimalPair]:
    """Pair each right sentence of a CLAMS file with the wrong ones that follow it."""
    good, since, paired = "", 0, True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        judgement, _, sentence = line.rstrip("\r").partition("\t")
        if judgement not in ("True", "False") or not sentence.strip():
            raise ValueError(f"{file}: line {number} is not True or False, a tab and a sentence")
        if judgement == "True":
            if not paired:
                raise ValueError(f"{file}: line {since} is True and no False line follows it")
            good, since, paired = sentence, number, False
        elif not good:
            raise ValueError(f"{file}: line {number} is False and no True line comes before it")
        else:
            paired = True
            yield MinimalPair(task=task, case="", good=good, bad=sentence)
    if not paired:
        raise ValueError(f"{file}: line {since} is True and no False line follows it")


def _table(text: str, file: str, task: str, number: int, header: str) -> Iterator[MinimalPair]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in header else ",")
    names = [name for name in reader.fieldnames or () if name]
    columns = next((pair for pair in _COLUMNS if set(pair) <= set(names)), None)
    if columns is None:
        shown = ", ".join(names)[:200]
        raise ValueError(f"{file}: line {number} has the columns {shown or 'none'}; {_KNOWN}")
    rows = []
    for values in reader:
        if any(value for value in values.values()):
            rows.append((reader.line_num, values))
    yield from _pairs(rows, columns, file, task)
