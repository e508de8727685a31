"""The HTTP door: Confluent's REST v3 resources, the v2 routes as a facade over the same handlers, and pull-fetch."""
