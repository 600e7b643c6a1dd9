"""The configuration of a run."""

from workflow.config.compute import ComputeSettings
from workflow.config.dask_settings import dask_places, describe_dask_settings
from workflow.config.fields import Section
from workflow.config.load import (
    FROM_RUN,
    LoadedConfig,
    as_yaml,
    flatten,
    known_keys,
    load_config,
)
from workflow.config.models import Config, config_model

__all__ = [
    "FROM_RUN",
    "ComputeSettings",
    "Config",
    "LoadedConfig",
    "Section",
    "as_yaml",
    "config_model",
    "dask_places",
    "describe_dask_settings",
    "flatten",
    "known_keys",
    "load_config",
]
