#!/usr/bin/env bash
# Makes the environments of the peers that tests/bench measures, one below the other:
#   tests/bench/peers.sh [DIRECTORY]      (default: .venv-peers)
# DIRECTORY/saelens, DIRECTORY/sparsify and DIRECTORY/dictionary_learning; one that is there stays.
# PYTHON chooses the interpreter (default: python3). Peers and their torch stay out of our own venv.
set -euo pipefail

directory="${1:-.venv-peers}"

make_peer() { # NAME PACKAGE...
  local python="$directory/$1/bin/python"
  if [ -e "$directory/$1/.made" ]; then return; fi
  "${PYTHON:-python3}" -m venv "$directory/$1"
  "$python" -m pip install --quiet "torch==2.13.0" # first: the packages take any torch
  "$python" -m pip install --quiet "torch==2.13.0" "${@:2}"
  # A torchvision for another build of torch keeps transformers from being imported; none is needed.
  "$python" -m pip uninstall --quiet --yes torchvision
  "$python" -m pip freeze >"$directory/$1/.made"
}

make_peer saelens "sae-lens==6.54.12" "transformer-lens<4"
make_peer sparsify "eai-sparsify==1.3.3"
make_peer dictionary_learning "dictionary-learning==0.1.0"
for name in saelens sparsify dictionary_learning; do
  echo "$name: $(grep -iE '^(sae-lens|eai-sparsify|dictionary-learning|torch)==' "$directory/$name/.made" | tr '\n' ' ')"
done
