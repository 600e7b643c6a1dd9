"""The configuration of a run."""

from workflow.config.compute import ComputeSettings
from workflow.config.load import LoadedConfig, flatten, known_keys, load_config
from workflow.config.models import Config

__all__ = ["ComputeSettings", "Config", "LoadedConfig", "flatten", "known_keys", "load_config"]
