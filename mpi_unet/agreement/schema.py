"""The published schema of ``agreement.json``, and reading such a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpi_unet.errors import AgreementError
from mpi_unet.files import read_json

__all__ = ["RECIPES_VERSION", "SCHEMA_VERSION", "agreement_schema", "read_agreement", "recipes_schema"]

SCHEMA_VERSION = "1.1.0"
"""Of ``agreement.json``; a reader understands every version with the same first number."""


RECIPES_VERSION = "2.0.0"
"""Of ``recipes.json``."""


def recipes_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) that every ``recipes.json`` of this version fits.

    Example:
        >>> recipes_schema()["title"]
        'recipes.json'
    """
    schema = read_json(Path(__file__).with_name("recipes.schema.json"))
    assert isinstance(schema, dict)
    return schema


def agreement_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) that every ``agreement.json`` of this version fits.

    Example:
        >>> agreement_schema()["title"]
        'agreement.json'
    """
    schema = read_json(Path(__file__).with_name("agreement.schema.json"))
    assert isinstance(schema, dict)
    return schema


def read_agreement(path: str | Path) -> dict[str, Any]:
    """Read the result of an agreement analysis.

    Raises:
        AgreementError: The file is missing, is no JSON, or was written by a version that this one does not read.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "agreement.json"
    try:
        content = read_json(path)
    except FileNotFoundError as error:
        raise AgreementError(f"{path} is missing; expected the agreement.json that evaluate wrote") from error
    except (OSError, ValueError) as error:
        raise AgreementError(
            f"{path} cannot be read ({error}); expected the agreement.json that evaluate wrote"
        ) from error
    version = str(content.get("schema_version", "")) if isinstance(content, dict) else ""
    if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        raise AgreementError(
            f"{path}: schema_version is {version or 'missing'}; this mpi_unet reads {SCHEMA_VERSION}; evaluate again, "
            "or install the mpi_unet that wrote it"
        )
    return dict(content)
