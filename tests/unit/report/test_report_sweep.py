"""The figure of a sweep is on the page when there is one, and only then."""

import study_files
from synthetic_study import synthetic_tables

from snapcoder.figures.catalogue import CATALOGUE, figures_of


def test_the_page_shows_the_sweep_only_when_it_was_drawn(tmp_path):
    tables = study_files.write_tables(tmp_path, synthetic_tables())
    (figure,) = figures_of("sweep")
    drawn = [tmp_path / "figures" / f"{figure.name}.{kind}" for kind in ("svg", "png")]
    drawn[0].parent.mkdir()
    for file in drawn:
        file.write_bytes(b"drawn")
    without = study_files.run_report(tmp_path, [path for path in tables if path.stem != "sweep_metrics"], [])
    text = (without / "index.html").read_text(encoding="utf-8")
    assert f"figure-{figure.name}" not in text
    assert "sweep_metrics" not in text
    assert text.count("<figure id=") == len(figures_of()) < len(CATALOGUE)
    shown = study_files.run_report(tmp_path, tables, drawn)
    text = (shown / "index.html").read_text(encoding="utf-8")
    assert f'id="figure-{figure.name}"' in text
    assert 'id="table-sweep_metrics"' in text
    assert (shown / "figures" / "pareto.svg").read_bytes() == b"drawn"
