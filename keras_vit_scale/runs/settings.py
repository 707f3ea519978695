"""Settings in dataclasses: read from YAML with their types checked, written, and compared."""

import dataclasses
from collections.abc import Container
from pathlib import Path
from typing import Any

import pydantic
import yaml

from keras_vit_scale.formats import FormatError, with_format, without_format

#: For a dataclass's `__pydantic_config__`: keys that it does not have are refused.
STRICT = pydantic.ConfigDict(extra="forbid")


class SettingsError(ValueError):
    """Settings that break a rule, told with the name of their file."""


def read_settings(kind: Any, text: str, name: str | Path, format: str | None = None) -> Any:
    """The dataclass `kind` that a YAML text describes.

    Args:
        kind: A dataclass; its fields' types are checked.
        text: YAML.
        name: Where the text comes from, for messages.
        format: Which of `FORMATS` the text may say the number of.

    Raises:
        SettingsError: If it is no YAML, of a later format, a key is unknown or missing, or
            a value breaks a rule: all problems in one line.
    """
    try:
        values = yaml.safe_load(text)
        if format is not None and isinstance(values, dict):
            values = without_format(format, values, name)
        return pydantic.TypeAdapter(kind).validate_python(values)
    except FormatError as error:
        raise SettingsError(str(error)) from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{name} is no YAML: {' '.join(str(error).split())}") from error
    except pydantic.ValidationError as error:
        raise SettingsError(f"{name}: {_one_line(error)}") from error


def settings_text(settings: Any, format: str | None = None) -> str:
    """The YAML text that `read_settings` reads as these settings, of the kind `format`."""
    plain = pydantic.TypeAdapter(type(settings)).dump_python(settings, mode="json")
    if format is not None:
        plain = with_format(format, plain)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def differences(before: Any, after: Any, free: Container[str] = (), part: str = "") -> list[str]:
    """What two dataclasses of one kind do not have in common, but for the fields `free`.

    Args:
        before: The earlier settings.
        after: The later ones.
        free: Names of fields that may differ.
        part: What the settings are a part of, put before each name.

    Example:

    >>> from keras_vit_scale import preset
    >>> from keras_vit_scale.runs.settings import differences
    >>> differences(preset("S/16"), preset("S/32"), part="model")
    ['model.patch_size was 16, now 32']
    """
    prefix = f"{part}." if part else ""
    return [
        f"{prefix}{f.name} was {getattr(before, f.name)!r}, now {getattr(after, f.name)!r}"
        for f in dataclasses.fields(before)
        if f.name not in free and getattr(before, f.name) != getattr(after, f.name)
    ]


def _one_line(error: pydantic.ValidationError) -> str:
    problems = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "unexpected_keyword_argument":
            message = "no such option"
        problems.append(f"{where}: {message}" if where else message)
    return "; ".join(problems)
