"""For all tests."""

import signal
from typing import Any

from hypothesis import HealthCheck, settings

from tests.simulation import summary

# how long an example takes says something of the machine
settings.register_profile("kraft", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kraft")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell without job control ignores Ctrl-C for what it runs in the background, and every program that a test
    # starts would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [one for some in terminalreporter.stats.values() for one in some if getattr(one, "when", "") == "call"]
    for line in summary.lines(reports):
        terminalreporter.write_line(line)
