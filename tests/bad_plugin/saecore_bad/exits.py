"""Ends the interpreter."""

import sys

sys.exit("no license found")
