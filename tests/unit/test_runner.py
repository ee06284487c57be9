import json
import subprocess
import sys
import time

import pytest

from snapcoder.provenance.fingerprint import step_fingerprint
from snapcoder.runner import run_step


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results" / "toy"


def arguments(study, **changes):
    given = {
        "--settings": json.dumps({"layers": [2], "study": "toy"}),
        "--code": step_fingerprint("landing"),
        "--record": str(study / "provenance/landing.json"),
        "--log": str(study / "logs/landing.log"),
        "--threads": "1",
        **changes,
    }
    page = study / "report/block2/index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<p>page</p>")
    named = ["--in", "pages", str(page), "--out", "page", str(study / "report/index.html")]
    return named + [part for pair in given.items() for part in pair]


def test_a_step_writes_its_output_and_a_record_of_it(study):
    assert run_step("landing", arguments(study)) == 0
    record = json.loads((study / "provenance/landing.json").read_text())
    assert record["files"][0]["path"] == "report/index.html"
    assert record["core"]["inputs"][0]["path"] == "report/block2/index.html"
    assert record["core"]["software"]["python"]
    assert record["run"]["threads"] == 1


def test_a_step_stops_when_its_code_is_not_the_planned_one(study, capsys):
    assert run_step("landing", arguments(study, **{"--code": "0" * 16})) == 1
    error = capsys.readouterr().err.strip()
    assert "code changed after the workflow was planned" in error
    assert "\n" not in error
    assert not (study / "report/index.html").exists()


def test_bad_input_gives_one_line_and_the_traceback_only_in_the_log(study, capsys, monkeypatch):
    def broken(job):
        raise ValueError("tokens.h5: has no tokens;\n  delete it")

    monkeypatch.setattr("snapcoder.steps.landing.landing", broken)
    assert run_step("landing", arguments(study)) == 1
    assert capsys.readouterr().err.strip() == "landing: tokens.h5: has no tokens; delete it"
    assert "Traceback" in (study / "logs/landing.log").read_text()
    assert not (study / "provenance/landing.json").exists()


WARM = """
import os, sys, time
from snapcoder.warm import run_warm, warm_server
with warm_server(enabled=True) as environment:
    os.environ.update(environment)
    deadline = time.time() + 60
    status = None
    while status is None and time.time() < deadline:  # None until the warm process is up
        status = run_warm(sys.argv[1:])
        time.sleep(0.2)
    sys.exit(9 if status is None else status)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="warm start is for Linux")
def test_a_warm_job_does_what_a_cold_one_does(study):
    cold = arguments(study)
    assert run_step("landing", cold) == 0
    content = (study / "report/index.html").read_bytes()
    (study / "report/index.html").unlink()
    done = subprocess.run([sys.executable, "-c", WARM, "landing", *cold], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (study / "report/index.html").read_bytes() == content
    bad = arguments(study, **{"--code": "0" * 16})
    done = subprocess.run([sys.executable, "-c", WARM, "landing", *bad], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "code changed" in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="warm start is for Linux")
def test_the_warm_process_ends_with_the_run_that_started_it(tmp_path):
    script = (
        "import os, time\nfrom snapcoder.warm import warm_server\n"
        "with warm_server(enabled=True) as e:\n    print(list(e.values())[0], flush=True)\n    time.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    address = run.stdout.readline().strip()

    def alive():
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        return any("snapcoder.warm" in line and address in line for line in listed.splitlines())

    assert alive()
    run.kill()
    run.wait()
    run.stdout.close()
    deadline = time.time() + 60
    while alive() and time.time() < deadline:
        time.sleep(0.2)
    assert not alive()
    assert address.endswith("/warm")
