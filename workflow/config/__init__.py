"""The configuration of a run."""

from workflow.config.compute import ComputeSettings
from workflow.config.fields import Section
from workflow.config.load import LoadedConfig, flatten, known_keys, load_config
from workflow.config.models import Config, config_model

__all__ = [
    "ComputeSettings",
    "Config",
    "LoadedConfig",
    "Section",
    "config_model",
    "flatten",
    "known_keys",
    "load_config",
]
