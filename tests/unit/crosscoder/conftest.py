"""Planted activations as caches on disk, and a hand-made job."""

from collections.abc import Callable
from pathlib import Path

import pytest
from planted import Planted, plant
from planted_caches import row_table

from snapcoder.job import Job
from snapcoder.storage.activations import write_cache


@pytest.fixture(scope="session")
def planted() -> Planted:
    return plant(n_rows=1200, n_snapshots=5, d_model=16, n_features=12, l0=3, seed=0)


@pytest.fixture(scope="session")
def caches(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("activations")
    rows = row_table(1200, 1000)
    paths = []
    for s in range(planted.activations.shape[1]):
        path = folder / f"step{10 * s}.h5"
        write_cache(
            path,
            [planted.activations[:, s]],
            rows=rows,
            step=10 * s,
            layer=2,
            site="blocks.2.resid_post",
            d_model=16,
            dtype="float16",
            provenance={},
        )
        paths.append(path)
    return paths


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Job]:
    def make(
        name: str, inputs: dict[str, list[Path]], outputs: dict[str, str], threads: int = 1, **settings: object
    ) -> Job:
        return Job(
            step=name,
            inputs={key: tuple(paths) for key, paths in inputs.items()},
            outputs={key: (tmp_path / path,) for key, path in outputs.items()},
            settings=settings,
            threads=threads,
            core={"step": name, "settings": settings},
        )

    return make
