"""saecore: train, load and compare sparse autoencoders on language-model activations.

The public names below are imported when they are first used; `import saecore` itself imports
neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from saecore._version import __version__ as __version__

if TYPE_CHECKING:
    from saecore.analysis.features import features
    from saecore.config.experiment import Experiment
    from saecore.config.load import load_experiment
    from saecore.core.architecture_config import ArchitectureConfig
    from saecore.core.sae import SAE
    from saecore.core.sae_config import Shape
    from saecore.errors import SaecoreError
    from saecore.evaluation.evaluate import evaluate
    from saecore.ops.codes import Codes
    from saecore.plugins.component import Component
    from saecore.plugins.hookspecs import hookimpl
    from saecore.releases.publish import upload_saes_to_huggingface
    from saecore.runs.run import run
    from saecore.saelens.activations_store import ActivationsStore
    from saecore.saelens.runner import SAETrainingRunner
    from saecore.saelens.runner_config import LanguageModelSAERunnerConfig
    from saecore.splicing.attribution import attribute
    from saecore.splicing.hooked_transformer import HookedSAETransformer
    from saecore.splicing.splice import splice

_HOME = {
    "SAE": "saecore.core.sae",
    "ActivationsStore": "saecore.saelens.activations_store",
    "ArchitectureConfig": "saecore.core.architecture_config",
    "Codes": "saecore.ops.codes",
    "Component": "saecore.plugins.component",
    "Experiment": "saecore.config.experiment",
    "HookedSAETransformer": "saecore.splicing.hooked_transformer",
    "LanguageModelSAERunnerConfig": "saecore.saelens.runner_config",
    "SAETrainingRunner": "saecore.saelens.runner",
    "SaecoreError": "saecore.errors",
    "Shape": "saecore.core.sae_config",
    "attribute": "saecore.splicing.attribution",
    "evaluate": "saecore.evaluation.evaluate",
    "features": "saecore.analysis.features",
    "hookimpl": "saecore.plugins.hookspecs",
    "load_experiment": "saecore.config.load",
    "run": "saecore.runs.run",
    "splice": "saecore.splicing.splice",
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
