"""config: the settings in force, by section, each with its sentence and where its value came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.config import as_yaml, flatten, known_keys
from workflow.config.compute import has_use

if TYPE_CHECKING:
    from workflow.config import LoadedConfig


def settings_content(loaded: LoadedConfig) -> dict[str, dict[str, Any]]:
    """Return every setting by its dotted key: ``value`` and ``origin``, JSON-able."""
    flat = flatten(loaded.config.model_dump(mode="json"))
    return {key: {"value": value, "origin": loaded.origins[key]} for key, value in flat.items()}


def describe_settings(loaded: LoadedConfig, *, with_all: bool = False) -> str:
    """Return the settings for a person.

    Parameters
    ----------
    loaded : LoadedConfig
        The settings and their origins.
    with_all : bool
        Whether settings are shown that work on this machine has no use for; where it is done
        elsewhere, and where somebody gave one, they are shown anyway.

    Returns
    -------
    str
        A paragraph for each section: key, value and origin, and under them what the setting is for.
    """
    model, content = type(loaded.config), settings_content(loaded)
    hidden = [] if with_all else _hidden(loaded)
    sentences = {key: text for key, text in known_keys(model) if key not in hidden}
    width = max(map(len, sentences))
    sections: dict[str, list[str]] = {}
    for key, sentence in sentences.items():
        name = key.rpartition(".")[0]
        if name not in sections:
            field = model.model_fields.get(name)
            title = "All steps." if field is None else field.description or ""
            sections[name] = [f"{name}: {title}" if name else title]
        value = as_yaml(content[key]["value"])
        sections[name] += [
            f"  {key:{width}}  {value:12} {content[key]['origin']}",
            f"    {sentence}",
        ]
    text = "\n\n".join("\n".join(lines) for lines in sections.values())
    if hidden:
        text += f"\n\n{len(hidden)} more settings are for batch systems, SSH and encryption: `config --all`."
    return text


def _hidden(loaded: LoadedConfig) -> list[str]:
    """Return the keys of `compute` that nothing on this machine reads and nobody gave."""
    launcher = loaded.config.compute.launcher
    return [
        key
        for key, origin in loaded.origins.items()
        if origin == "default" and not has_use(key, launcher)
    ]
