"""YAML files into validated objects, with every problem of a file reported at once."""

import difflib
import math
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from policy_tagger.inference.errors import InputError


class Schema(BaseModel):
    """A frozen section of a configuration: unknown keys and silent conversions are refused.

    The string under a field is its documentation and carries the unit.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


SchemaT = TypeVar("SchemaT", bound=BaseModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence; a config with one of them lost is a wrong config."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key_node.start_mark)
            key = unicodedata.normalize("NFC", key) if isinstance(key, str) else key
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None where nothing is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def parse_yaml(text: str, source: str) -> Any:
    """YAML text to plain objects.

    Raises:
        InputError: the text is not YAML, or a key stands twice.
    """
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{source}{line} must be YAML: {error.problem}.") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{source} must be YAML: {error}.") from None
    except RecursionError:
        raise InputError(f"{source} must be YAML. It is nested too deeply.") from None


def load_yaml(path: str | Path, schema: type[SchemaT], overrides: Sequence[str] = ()) -> SchemaT:
    """Read, override and validate one YAML file.

    Args:
        overrides: `section.field=value` each, the value in YAML notation.

    Raises:
        InputError: the file is missing, not YAML, or has problems; all of them are listed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} must be an existing YAML file. Found nothing there.") from None
    except IsADirectoryError:
        raise InputError(f"{path} must be a YAML file. Found a folder.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} must be UTF-8 text. Save it again as UTF-8.") from None
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold fields (`name: value`). Got {type(content).__name__}.")
    for override in overrides:
        _apply_override(content, override)
    return validate(content, schema, str(path))


def validate(content: dict[str, Any], schema: type[SchemaT], source: str) -> SchemaT:
    """Plain objects to a validated `schema`.

    Raises:
        InputError: every problem, each as `section.field in source must be …. Got ….`
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise InputError([_message(dict(detail), schema, source) for detail in error.errors()]) from None


def _apply_override(content: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise InputError(f"--set {override} must have the form section.field=value.")
    *sections, field = dotted.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise InputError(f"--set {override}: `{section}` is a value, not a section.")
    content[field] = parse_yaml(value, f"--set {override}")


def _message(detail: dict[str, Any], schema: type[BaseModel], source: str) -> str:
    field = ".".join(str(part) for part in detail["loc"]) or "the file"
    if detail["type"] == "extra_forbidden":
        known = _fields_at(schema, detail["loc"][:-1])
        guess = nearest(str(detail["loc"][-1]), known)
        hint = f" Did you mean `{guess}`?" if guess else f" Known fields: {', '.join(known)}."
        return f"{field} in {source} is not a known field.{hint}"
    if detail["type"] == "missing":
        return f"{field} in {source} must be given."
    if detail["type"] == "value_error":
        return f"{field} in {source} {detail['ctx']['error']}."
    expected = detail["msg"].replace("Input should be", "must be").replace("should have", "must have")
    found = repr(detail["input"])
    message = f"{field} in {source} {expected}. Got {found if len(found) < 80 else found[:77] + '...'}."
    number = _number_in(detail["input"]) if detail["type"] in ("float_type", "int_type") else None
    if number is not None:
        whole = detail["type"] == "int_type" and number.is_integer()
        message += f" YAML reads this as text; write {int(number) if whole else f'{number:.1e}'}."
    return message


def _number_in(text: Any) -> float | None:
    """The finite number that a text spells, or None."""
    try:
        number = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _fields_at(schema: Any, location: Sequence[int | str]) -> list[str]:
    """The field names of the section at `location`, through lists, dicts and optional sections."""
    for part in location:
        fields = getattr(schema, "model_fields", {})
        annotation = fields[part].annotation if part in fields else schema
        schema = next(
            (arg for arg in (annotation, *_type_arguments(annotation)) if hasattr(arg, "model_fields")), annotation
        )
    return list(getattr(schema, "model_fields", {}))


def _type_arguments(annotation: Any) -> list[Any]:
    arguments = list(getattr(annotation, "__args__", ()))
    return arguments + [inner for argument in arguments for inner in _type_arguments(argument)]
