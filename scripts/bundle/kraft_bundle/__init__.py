"""The installed application: one package with a unique name, and nothing generic beside it in site-packages.

It owns how a process of ours starts and nothing else. In a wheel the rooms (`api`, `broker`, `cli`, ...) lie inside
this folder; in a checkout they lie at its top. See docs/decisions/0002-one-application-in-a-wheel.md.
"""
