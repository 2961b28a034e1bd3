"""Imported by the process that trials are forked from, and by no other: it ends with its launcher,
whose business Ctrl-C is."""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
signal.signal(signal.SIGINT, signal.SIG_IGN)
