"""`--rewrite` records the scenarios anew, for review in the diff."""

from contextlib import suppress


def pytest_addoption(parser):
    with suppress(ValueError):  # another room's tests may have added it
        parser.addoption("--rewrite", action="store_true", help="record the scenario files anew")
