"""`python -P -m kraft_bundle ARGS` is `kraft ARGS`."""

from kraft_bundle.launcher import main

main()
