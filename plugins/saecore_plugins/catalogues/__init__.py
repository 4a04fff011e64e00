"""Catalogues of published SAEs, one a package."""
