"""Kafka's wire protocol as a door: what clients and the other brokers speak, over the same replicas as HTTP."""
