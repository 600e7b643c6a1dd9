"""Defaults, YAML file, environment and command line merged into one Config, each value with its origin."""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from workflow.config.compute import REMOVED_LAUNCHERS, REMOVED_SETTINGS
from workflow.errors import ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workflow.config.models import Config

log = logging.getLogger(__name__)

#: Environment variables that set a value start so; two underscores part section and name.
ENVIRONMENT_PREFIX = "WORKFLOW_"
#: How alike a variable and a setting are that one was likely meant for the other.
NEAR_VARIABLE = 0.8
#: Where a setting comes from that nobody gave now, but somebody did when the run was last made.
FROM_RUN = "the run folder"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The effective configuration and where each value came from.

    Attributes
    ----------
    config : Config
        The merged settings.
    origins : dict of str to str
        Dotted key -> ``default``, a file's name, a variable's name,
        ``--set``, or ``the run folder``.
    """

    config: Config
    origins: dict[str, str]

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given, by dotted key: those that are not defaults."""
        flat = flatten(self.config.model_dump(mode="json"))
        return {key: flat[key] for key, origin in self.origins.items() if origin != "default"}

    def over(self, kept: Mapping[str, Any]) -> LoadedConfig:
        """Return these settings over those of a run folder, which win over the defaults only.

        Parameters
        ----------
        kept : mapping
            Settings that a run was made with, by dotted key.

        Returns
        -------
        LoadedConfig
            The settings, with ``the run folder`` as the origin of what was kept.

        Raises
        ------
        ConfigError
            If a value of the run folder is out of its range.
        """
        merged = {key: (value, FROM_RUN) for key, value in kept.items()}
        merged |= {key: (value, self.origins[key]) for key, value in self.given.items()}
        return _validated(type(self.config), merged)


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every dotted key and the sentence that documents it; those of `compute` come last.

    Parameters
    ----------
    model : type
        All settings, or a section of them.
    prefix : str
        What every key starts with.

    Yields
    ------
    key, sentence : str
        Of one setting.
    """
    for name, field in sorted(model.model_fields.items(), key=lambda item: item[0] == "compute"):
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field.description or ""


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one dictionary with dotted keys.

    Parameters
    ----------
    settings : mapping
        Sections within sections.
    prefix : str
        What every key starts with.

    Returns
    -------
    dict
        Dotted key -> value.
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = value
    return flat


def as_yaml(value: Any) -> str:
    """Return a value as ``--set`` and a YAML file take it.

    Parameters
    ----------
    value : object
        A JSON-able value of a setting.

    Returns
    -------
    str
        One line.
    """
    return value if isinstance(value, str) else json.dumps(value)


def load_config(
    model: type[Config],
    file: Path | str | None = None,
    assignments: Sequence[str] | Mapping[str, Any] = (),
    *,
    compute: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Merge defaults, a YAML file, the environment and assignments, the later winning.

    Parameters
    ----------
    model : type
        All settings that there are, as `config_model` makes it.
    file : path, optional
        YAML file of settings.
    assignments : sequence of str or mapping
        ``KEY=VALUE`` texts of the command line, or dotted keys with values.
    compute : str, optional
        A name or file of ``cluster_configs/``, or the address of a scheduler.
    options : mapping, optional
        Options of a command -> the settings that they stand for, by dotted key.
    environment : mapping, optional
        Environment variables; those of the process by default.

    Returns
    -------
    LoadedConfig
        The settings and the origin of each.

    Raises
    ------
    ConfigError
        If a file or key is unknown or a value is out of its range; the text
        names the nearest right key.
    """
    merged: dict[str, tuple[Any, str]] = {}
    for origin, values in _layers(model, file, assignments, compute, options, environment):
        for key, value in values.items():
            _refuse_removed(key, value, origin)
            _require_known(model, key, origin)
            merged[key] = (value, origin)
    return _validated(model, merged)


def _validated(model: type[Config], merged: Mapping[str, tuple[Any, str]]) -> LoadedConfig:
    """Check values by dotted key, each with its origin; the others are defaults."""
    nested: dict[str, Any] = {}
    for key, (value, _) in merged.items():
        *sections, name = key.split(".")
        target = nested
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = value
    try:
        config = model.model_validate(nested)
    except ValidationError as err:
        raise ConfigError(_sentence(err, merged)) from None
    origins = {key: merged[key][1] if key in merged else "default" for key, _ in known_keys(model)}
    return LoadedConfig(config, origins)


def _layers(
    model: type[Config],
    file: Path | str | None,
    assignments: Sequence[str] | Mapping[str, Any],
    compute: str | None,
    options: Mapping[str, Mapping[str, Any]] | None,
    environment: Mapping[str, str] | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (origin, dotted keys with values), the weakest first."""
    if file is not None:
        yield Path(file).name, flatten(read_yaml(Path(file)))
    variables = os.environ if environment is None else environment
    for name in sorted(name for name in variables if name.startswith(ENVIRONMENT_PREFIX)):
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
        # Other programs have variables that begin so: only what parts a section is surely ours.
        if "." in key or key in model.model_fields:
            yield name, {key: _value(variables[name], key)}
        else:
            _look_for_mistyped(model, name, key)
    if compute is not None:
        yield f"--compute {compute}", _compute_layer(compute)
    for option, values in (options or {}).items():
        yield option, dict(values)
    if not isinstance(assignments, str) and hasattr(assignments, "items"):
        yield "argument", flatten(dict(assignments.items()))
    else:
        yield "--set", dict(_assignment(text) for text in assignments)


def _look_for_mistyped(model: type[Config], name: str, words: str) -> None:
    """Refuse a variable that is a setting but for its underscores; warn of one that is like one."""
    keys = [key for key, _ in known_keys(model)]
    variables = {key.replace(".", "_"): key for key in keys}
    plain = re.sub("_+", "_", words)
    if plain in variables:
        msg = f"a variable must part section and name by two underscores; got {name}. Write {_variable(variables[plain])}."
        raise ConfigError(msg)
    near = [variables[n] for n in difflib.get_close_matches(plain, variables, 1, NEAR_VARIABLE)]
    near += [key for key in keys if key.rpartition(".")[2] == plain]
    sections = {key.partition(".")[0] for key in keys if "." in key}
    parts = plain.split("_")
    starts = ["_".join(parts[: n + 1]) for n in range(len(parts))]
    if near:
        log.warning("%s sets nothing. Did you mean %s?", name, _variable(near[0]))
    elif any(difflib.get_close_matches(start, sections, 1, NEAR_VARIABLE) for start in starts):
        log.warning("%s sets nothing. Print the known settings with `config`.", name)


def _variable(key: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + key.replace(".", "__").upper()


def _assignment(text: str) -> tuple[str, Any]:
    """Split ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not equals:
        msg = (
            f"`--set` must be KEY=VALUE; got {text!r}. Write for example --set pca.n_components=50."
        )
        raise ConfigError(msg)
    return key.strip(), _value(value, key.strip())


def _value(text: str, key: str) -> Any:
    """Read a value as YAML does: numbers, true and false, text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        msg = f"`{key}` must be a plain value; got {text!r}. Quote it as YAML would."
        raise ConfigError(msg) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        # Before what is merged by `<<` is put between the keys.
        keys = list(_keys_with_lines(node))
        content = None if node is None else loader.construct_document(node)
    except FileNotFoundError:
        msg = f"the configuration must be a readable YAML file; {path} does not exist. Check the path."
        raise ConfigError(msg) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        msg = f"the configuration must be a readable YAML file; {path} is not: {one_line(err)}. Repair it."
        raise ConfigError(msg) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        msg = f"the configuration must hold sections; {path} holds a {type(content).__name__}. Write `section:` and indented settings."
        raise ConfigError(msg)
    lines: dict[str, int] = {}
    for key, line in keys:
        if key in lines:
            msg = f"a file must give each key once; {path} gives `{key}` in line {lines[key]} and again in line {line}. Remove one of them."
            raise ConfigError(msg)
        lines[key] = line
    return content


def _keys_with_lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield the dotted keys of a file as they stand there, sections too, and their lines."""
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        key = f"{prefix}{name.value}"
        yield key, name.start_mark.line + 1
        yield from _keys_with_lines(value, f"{key}.")


def site_folders() -> list[Path]:
    """Return where site files are looked for: here, beside the package, inside it."""
    package = Path(__file__).resolve().parent.parent
    return [
        Path("cluster_configs"),
        package.parent / "cluster_configs",
        package / "cluster_configs",
    ]


def _compute_layer(compute: str) -> dict[str, Any]:
    """Return the ``compute`` section that a name, file or address stands for."""
    if "://" in compute:
        return {"compute.launcher": "address", "compute.address": compute}
    candidates = [Path(compute)] + [folder / f"{compute}.yaml" for folder in site_folders()]
    for path in candidates:
        if path.is_file():
            content = flatten(read_yaml(path))
            foreign = sorted(key for key in content if not key.startswith("compute."))
            if foreign:
                msg = f"a site file must hold the section `compute` only; {path} holds `{foreign[0]}`. Move it to a --config file."
                raise ConfigError(msg)
            return content
    if compute in REMOVED_LAUNCHERS:
        return {"compute.launcher": compute}
    names = sorted({p.stem for folder in site_folders() for p in folder.glob("*.yaml")})
    near = difflib.get_close_matches(compute, names, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else "Give a name, a YAML file or tcp://HOST:PORT."
    msg = f"`--compute` must name a site; got {compute!r}, known: {', '.join(names)}. {hint}"
    raise ConfigError(msg)


def _refuse_removed(key: str, value: Any, origin: str) -> None:
    """Refuse launchers of earlier versions, and say what takes their place."""
    is_launcher = key == "compute.launcher" and value in REMOVED_LAUNCHERS
    if is_launcher or key in REMOVED_SETTINGS:
        msg = f"Kubernetes and Dask gateways must be joined by the address of their scheduler; got `{key}` {value!r} (from {origin}). Start workers with dask-kubernetes or dask-gateway and give --compute tcp://HOST:PORT or client=, see docs/clusters.md."
        raise ConfigError(msg)


def _require_known(model: type[Config], key: str, origin: str) -> None:
    """Refuse a key that no section has, naming the nearest one."""
    keys = [name for name, _ in known_keys(model)]
    if key in keys:
        return
    by_last_word = [name for name in keys if name.rpartition(".")[2] == key.rpartition(".")[2]]
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5) or by_last_word
    hint = f"Did you mean `{near[0]}`?" if near else "Print the known ones with `config`."
    msg = f"a setting must be a known one; got `{key}` (from {origin}). {hint}"
    raise ConfigError(msg)


def _sentence(err: ValidationError, merged: Mapping[str, tuple[Any, str]]) -> str:
    """Return the first problem that pydantic saw as one line of ours."""
    problem = err.errors()[0]
    parts = [str(part) for part in problem["loc"]]
    key = next(
        (".".join(parts[:n]) for n in (2, 1) if ".".join(parts[:n]) in merged), ".".join(parts)
    )
    value, origin = merged.get(key, (problem.get("input"), "default"))
    what = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"`{key}` {what}; got {value!r} (from {origin}). Print the effective settings with `config`."
