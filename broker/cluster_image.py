"""The metadata state machine on its way from the quorum's thread to the node's loop.

Owns the image of this node: the quorum's thread applies committed commands to it, the node's loop sees each new image
together with the delta since the last one that it saw. Refuses what another version wrote (`ForeignMetadataError`); a
command that can't be applied is a bug. Either stops the node. Invariants: the loop sees images in log order; what it
saw is never older than an answer that it is given for a proposal or a wait, since those are posted to the loop after
the image.
"""

import threading
from collections.abc import Callable

from broker.errors import ForeignMetadataError
from metadata import codec
from metadata.apply import apply
from metadata.delta import Delta
from metadata.image import Image

OnImage = Callable[[Image, Delta], None]


class ClusterImage:
    """A `kraft` state machine whose state is the image; `post` runs a callable on the node's loop."""

    def __init__(
        self,
        cluster_id: str,
        *,
        post: Callable[[Callable[[], None]], object],
        on_bug: Callable[[BaseException], None],
    ) -> None:
        """`on_bug` is told, on the loop, of what an observer raised: a node that missed a change must not go on."""
        self.image = Image.empty(cluster_id)
        """What the node's loop sees."""
        self._post = post
        self._on_bug = on_bug
        self._observers: list[OnImage] = []
        self._applied = self.image
        self._hand_over = threading.Lock()
        self._unseen: Delta | None = None

    def observe(self, observer: OnImage) -> None:
        """Call `observer` on the loop with every new image and what changed since the one before."""
        self._observers.append(observer)

    def apply(self, index: int, command: bytes) -> object:
        """On the quorum's thread: apply one committed command; the answer goes back to whoever proposed it."""
        try:
            proposal = codec.decode_proposal(command)
        except codec.MalformedMetadataError as error:  # every entry has a checksum: so it was written
            raise ForeignMetadataError(f"entry {index}: {error}") from None
        applied = apply(self._applied, index, proposal)
        self._show(applied.image, applied.delta)
        return applied.answer

    def snapshot(self) -> bytes:
        """On the quorum's thread: the image as bytes."""
        return codec.encode_snapshot(self._applied)

    def restore(self, index: int, snapshot: bytes) -> None:
        """On the quorum's thread: become the image of a snapshot."""
        try:
            image = codec.decode_snapshot(snapshot)
        except codec.MalformedMetadataError as error:
            raise ForeignMetadataError(f"snapshot {index}: {error}") from None
        assert image.cluster_id == self._applied.cluster_id, (image.cluster_id, self._applied.cluster_id)
        assert image.applied_index <= index, (image.applied_index, index)
        self._show(image, Delta.between(self._applied, image))

    def _show(self, image: Image, delta: Delta) -> None:
        with self._hand_over:
            self._applied = image
            first = self._unseen is None
            self._unseen = delta if self._unseen is None else self._unseen.merge(delta)
        if first:
            self._post(self._see)

    def _see(self) -> None:
        with self._hand_over:
            image, delta = self._applied, self._unseen
            self._unseen = None
        assert delta is not None
        self.image = image
        if delta.is_empty:
            return
        try:
            for observer in self._observers:
                observer(image, delta)
        except Exception as error:  # noqa: BLE001 - whatever it is, this node no longer follows the metadata
            self._on_bug(error)
