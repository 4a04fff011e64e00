"""saecore: train, load and compare sparse autoencoders on language-model activations.

The public names below are imported when they are first used; `import saecore` itself imports
neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from saecore.codes import Codes
    from saecore.components import Component
    from saecore.config import Experiment, load_experiment
    from saecore.config.architecture import ArchitectureConfig
    from saecore.errors import SaecoreError
    from saecore.evaluating import evaluate
    from saecore.hooked.attribution import attribute
    from saecore.hooked.splice import splice
    from saecore.hooked.transformer import HookedSAETransformer
    from saecore.hookspecs import hookimpl
    from saecore.language_model.config import LanguageModelSAERunnerConfig
    from saecore.language_model.runner import SAETrainingRunner
    from saecore.language_model.store import ActivationsStore
    from saecore.looking.features import features
    from saecore.releases.publish import upload_saes_to_huggingface
    from saecore.runner import run
    from saecore.sae import SAE
    from saecore.sae_config import Shape

_HOME = {
    "SAE": "saecore.sae",
    "ActivationsStore": "saecore.language_model.store",
    "ArchitectureConfig": "saecore.config.architecture",
    "Codes": "saecore.codes",
    "Component": "saecore.components",
    "Experiment": "saecore.config",
    "HookedSAETransformer": "saecore.hooked.transformer",
    "LanguageModelSAERunnerConfig": "saecore.language_model.config",
    "SAETrainingRunner": "saecore.language_model.runner",
    "SaecoreError": "saecore.errors",
    "Shape": "saecore.sae_config",
    "attribute": "saecore.hooked.attribution",
    "evaluate": "saecore.evaluating",
    "features": "saecore.looking.features",
    "hookimpl": "saecore.hookspecs",
    "load_experiment": "saecore.config",
    "run": "saecore.runner",
    "splice": "saecore.hooked.splice",
    "upload_saes_to_huggingface": "saecore.releases.publish",
}

__all__ = [
    "SAE",
    "ActivationsStore",
    "ArchitectureConfig",
    "Codes",
    "Component",
    "Experiment",
    "HookedSAETransformer",
    "LanguageModelSAERunnerConfig",
    "SAETrainingRunner",
    "SaecoreError",
    "Shape",
    "attribute",
    "evaluate",
    "features",
    "hookimpl",
    "load_experiment",
    "run",
    "splice",
    "upload_saes_to_huggingface",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'saecore' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
