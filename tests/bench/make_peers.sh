#!/usr/bin/env bash
# Makes a virtual environment with SAELens for the comparisons in this directory.
#   tests/bench/make_peers.sh [DIRECTORY]      (default: .venv-peers)
# PYTHON chooses the interpreter (default: python3); SAELens and torch stay out of our own venv.
set -euo pipefail

directory="${1:-.venv-peers}"
"${PYTHON:-python3}" -m venv "$directory"
"$directory/bin/python" -m pip install --quiet "torch==2.13.0" # first: sae-lens takes any torch
"$directory/bin/python" -m pip install --quiet "torch==2.13.0" "sae-lens==6.54.12" "transformer-lens<4"
"$directory/bin/python" -c 'import sae_lens, torch; print("sae-lens", sae_lens.__version__, "torch", torch.__version__)'
