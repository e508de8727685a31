"""What cores say to each other in six situations, word for word: a change of the protocol shows in its review."""

import pytest

from tests.kraft.conversations import FOLDER, SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_conversation_is_as_recorded(scenario):
    recorded = (FOLDER / f"{scenario.__name__}.txt").read_text()
    assert recorded == scenario(), "if intended: python -m tests.kraft.conversations --rewrite, and review the change"


def test_every_recording_has_a_scenario():
    assert {f"{scenario.__name__}.txt" for scenario in SCENARIOS} == {path.name for path in FOLDER.iterdir()}
