"""`python -m saecore`: the command line, for when `saecore` is not on the PATH."""

from saecore.cli import main

if __name__ == "__main__":
    main()
