"""A node takes the descriptors that the system gives, and knows before it starts what they are enough for."""

import subprocess
import sys

import pytest

from broker.config import load_config
from broker.descriptors import OTHERS, fitted

DEFAULTS = load_config(None, {}, [])[0]


def test_caps_that_fit_stay_as_they_are():
    warnings: list[str] = []
    wanted = DEFAULTS.max_connections + DEFAULTS.log_max_open_files + OTHERS
    assert DEFAULTS is fitted(DEFAULTS, wanted, warnings)
    assert [] == warnings


@pytest.mark.parametrize("limit", [232, 256, 1024, 4096, 11_199])
def test_a_low_limit_lowers_the_caps_and_says_so_in_one_line(limit):
    warnings: list[str] = []
    config = fitted(DEFAULTS, limit, warnings)
    assert config.max_connections + config.log_max_open_files + OTHERS <= limit
    assert 16 <= config.log_max_open_files <= DEFAULTS.log_max_open_files
    assert 16 <= config.max_connections <= DEFAULTS.max_connections
    (warning,) = warnings
    assert "\n" not in warning
    assert f"max.connections={config.max_connections} and log.max.open.files={config.log_max_open_files}" in warning


def test_what_connections_do_not_need_is_left_for_files():
    config = load_config(None, {}, ["max.connections=100", "log.max.open.files=5000"])[0]
    config = fitted(config, 1300, [])
    assert (100, 1000) == (config.max_connections, config.log_max_open_files)


def test_the_soft_limit_is_raised_to_the_hard_one():
    """In a process of its own: a hard limit that was lowered cannot be raised again."""
    program = (
        "import resource; from broker.descriptors import raise_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))\n"
        "print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "512 (512, 512)\n" == found.stdout
