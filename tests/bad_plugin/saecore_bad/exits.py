"""Ends the interpreter."""

import sys

sys.exit("no licence found")
