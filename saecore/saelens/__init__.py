"""The Python API of SAELens 3 to 5, translated into experiments of saecore."""
