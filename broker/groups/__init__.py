"""Consumer groups: the classic protocol's coordinator, pure, and its driver."""
