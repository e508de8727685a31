"""For all tests."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell without job control ignores Ctrl-C for what it runs in the background, and every program that a test
    # starts would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
