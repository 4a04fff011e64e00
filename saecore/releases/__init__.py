"""Find, load, convert and publish SAEs.

`resolve` finds an SAE by name, `load` reads it with a release plugin (`ReleaseSource`), which
returns a `Draft`, and `build` makes the `SAE`.
"""
