"""Needs what is not there."""

import nonesuch  # noqa: F401
