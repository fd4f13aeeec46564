"""Settings of these tests: silence what other people's libraries say on every run."""

from pathlib import Path

import pytest

from tests.integration.conftest import SILENCED, reports_without_pictures

__all__ = ["reports_without_pictures"]  # for every test of this folder too

HERE = Path(__file__).parent
ALSO = (
    *SILENCED,
    "ignore:.*PossibleUserWarning",
    "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning",
    "ignore::UserWarning",
    "ignore::DeprecationWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder alone; those of other rooms stay strict."""
    for item in items:
        if HERE in item.path.parents:
            for rule in ALSO:
                item.add_marker(pytest.mark.filterwarnings(rule), append=False)
