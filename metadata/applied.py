"""What applying one entry gives: the next image, where it differs, and the answer to whoever proposed it."""

from typing import NamedTuple

from metadata.answers import Answer
from metadata.delta import Delta
from metadata.image import Image


class Applied(NamedTuple):
    image: Image
    delta: Delta
    answer: Answer
