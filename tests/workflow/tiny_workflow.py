"""A copy of the workflow with a study small enough to run in seconds, and Snakemake's plan of it."""

import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = REPOSITORY / "tests" / "workflow" / "tiny.yaml"


@dataclass
class Workflow:
    """A working copy of the repository's workflow in a folder of its own."""

    folder: Path

    def snakemake(self, *arguments, check=True, python=sys.executable, **options):
        """Run snakemake in the copy; the copy's own package is the one that runs."""
        command = [python, "-m", "snakemake", "--cores", "2", *arguments]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(self.folder / "workflow"), "HOME": str(self.folder)}
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, env=environment, timeout=900, **options
        )
        if check and done.returncode:
            raise AssertionError(done.stdout[-3000:] + done.stderr[-6000:])
        return done

    def plan(self, *arguments):
        """Return the jobs that Snakemake would run now: {rule: sorted wildcards as text}."""
        done = self.snakemake("--dry-run", *arguments)
        jobs, rule, wildcards = {}, None, ""
        for line in (done.stdout + done.stderr).splitlines():
            found = re.match(r"\s*(?:local)?rule (\w+):", line)
            if found:
                if rule:
                    jobs.setdefault(rule, []).append(wildcards)
                rule, wildcards = found.group(1), ""
            elif line.strip().startswith("wildcards:"):
                wildcards = line.split(":", 1)[1].strip()
        if rule:
            jobs.setdefault(rule, []).append(wildcards)
        jobs.pop("all", None)
        return {name: sorted(found) for name, found in jobs.items()}

    def configure(self, **changes):
        """Merge changes into the copy's configuration."""
        file = self.folder / "config" / "config.yaml"
        content = yaml.safe_load(file.read_text())
        for key, value in changes.items():
            if isinstance(value, dict):
                content[key] = {**content.get(key, {}), **value}
            else:
                content[key] = value
        file.write_text(yaml.safe_dump(content))

    @property
    def results(self):
        return self.folder / "results" / "tiny"


def copy_workflow(folder):
    for name in ("Snakefile", "rules", "workflow", "envs"):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, folder / name)
    (folder / "config").mkdir()
    shutil.copy2(TINY, folder / "config" / "config.yaml")
    write_texts(folder / "texts")
    return Workflow(folder)


def write_texts(folder, n_documents=40, seed=0):
    """Write small English texts with agreement and repetition, the same ones for the same seed."""
    draw = random.Random(seed)
    people = {"man": ("he", "his", "was"), "king": ("he", "his", "was"), "men": ("they", "their", "were")}
    places = ("city", "house", "field", "mountain", "river", "garden")
    deeds = ("saw", "built", "left", "loved", "feared", "blessed")
    folder.mkdir()
    for document in range(n_documents):
        sentences = []
        for _ in range(30):
            who = draw.choice(sorted(people))
            pronoun, owner, verb = people[who]
            place, deed = draw.choice(places), draw.choice(deeds)
            sentences.append(f"The {who} {verb} in the {place}, and {pronoun} {deed} {owner} {draw.choice(places)}.")
        (folder / f"text{document:02}.txt").write_text(" ".join(sentences) + "\n")
