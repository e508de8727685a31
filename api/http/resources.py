"""The envelope of v3 resources: kind, links to oneself and to others, lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.http.context import context_of

if TYPE_CHECKING:
    from aiohttp import web


class Links:
    """Makes the links of one answer; they begin as the caller's own request did."""

    __slots__ = ("_base", "_cluster_id", "clusters_url")

    def __init__(self, request: web.Request) -> None:
        context = context_of(request)
        self._cluster_id = context.node.cluster_id
        self.clusters_url = f"{request.scheme}://{request.host}/v3/clusters"
        self._base = f"{self.clusters_url}/{self._cluster_id}"

    def url(self, path: str) -> str:
        return self._base + path

    def related(self, path: str) -> dict[str, str]:
        return {"related": self._base + path}

    def resource(self, kind: str, path: str, **fields: Any) -> dict[str, Any]:
        """One resource; its name follows from its path (`/topics/a/partitions/0`)."""
        steps = path.strip("/").split("/") if path.strip("/") else []
        named = "".join(
            f"/{noun.removesuffix('s')}={name}" for noun, name in zip(steps[::2], steps[1::2], strict=False)
        )
        metadata = {"self": self._base + path, "resource_name": f"crn:///kafka={self._cluster_id}{named}"}
        return {"kind": kind, "metadata": metadata, "cluster_id": self._cluster_id, **fields}

    def listing(
        self, kind: str, path: str, data: list[dict[str, Any]], *, following: str | None = None
    ) -> dict[str, Any]:
        """A list, or a page of one; `following` is the path of the next page."""
        metadata = {"self": self._base + path, "next": None if following is None else self._base + following}
        return {"kind": kind, "metadata": metadata, "data": data}
