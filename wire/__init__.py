"""Bytes to messages and back. Imports nothing of ours."""
