"""Commands that point: aliases and the default version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_hfreg.commands.replies import Asked, Reply
from airflow_provider_hfreg.errors import InvalidOptionError, ModelReferenceError
from airflow_provider_hfreg.versions.layout import parse_reference

if TYPE_CHECKING:
    from airflow_provider_hfreg.registry.model import Model


def alias(asked: Asked) -> Reply:
    """Set, move, show or remove an alias."""
    options = asked.options
    model_name, name = _alias_of(options.alias)
    model = asked.registry.get_model(model_name)
    if options.remove:
        _refuse_both(options.version, "--remove")
        model.delete_alias(name)
        return Reply({"removed": options.alias}, f"Removed {options.alias}; the version stays.")
    before = model.aliases().get(name)
    if options.version is not None:
        model.set_alias(name, options.version)
    return _pointed(model, options.alias, before, changed=options.version is not None)


def default(asked: Asked) -> Reply:
    """Set, unset or show the default version."""
    options = asked.options
    model = asked.registry.get_model(options.model)
    if options.unset:
        _refuse_both(options.version, "--unset")
    before = model.default.version_name
    if options.unset or options.version is not None:
        model.set_default(options.version)
    return _pointed(model, options.model, before, changed=options.unset or options.version is not None)


def _pointed(model: Model, pointer: str, before: str | None, *, changed: bool) -> Reply:
    """Return where an alias, or the bare name of a model, points after a command."""
    name = parse_reference(pointer).alias or "DEFAULT"
    version = model.alias(name)
    moved = changed and before not in (None, version.version_name)
    text = f"{pointer} is {version.reference}" + (f" now; it was {model.name}/{before}." if moved else ".")
    plain = {"pointer": pointer, "version": version.reference, "content_digest": version.content_digest}
    return Reply(plain | {"before": before}, text)


def _alias_of(text: str) -> tuple[str, str]:
    reference = parse_reference(text)
    if reference.alias is None:
        raise ModelReferenceError(f"{text!r} names no alias: write MODEL@ALIAS, such as finbert@champion.")
    return reference.model_name, reference.alias


def _refuse_both(version: str | None, option: str) -> None:
    if version is not None:
        raise InvalidOptionError(f"Give either a version or {option}.")
