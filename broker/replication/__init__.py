"""A partition's leader and followers: pure cores that compute, and the replica that does."""
