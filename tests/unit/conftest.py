import pytest
import synthetic_study


@pytest.fixture(scope="session")
def study_tables():
    return synthetic_study.synthetic_tables()


@pytest.fixture(scope="session")
def no_tables():
    return synthetic_study.empty_tables()
