"""Azure's own description of its messages, where it lies beside the checkout, to check logged messages by.

The folder (Swagger, recorded traffic, a validator) is no part of this repository: it is named by
FARMSTEAD_AZURE_SPECS or found as shared/azure-specs in a folder above the checkout. Tests say that they are
skipped where it is missing.
"""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from testbed.azure.errors import Json
from testbed.azure.requestlog import Entry

_PLACE = Path("shared") / "azure-specs"
_SWAGGER = Path("swagger") / "2026-03-01"


def find_specs() -> Path | None:
    """The folder, or None."""
    named = os.environ.get("FARMSTEAD_AZURE_SPECS")
    if named:
        return Path(named)
    return next((folder / _PLACE for folder in Path(__file__).parents if (folder / _PLACE).is_dir()), None)


class _Spec(Protocol):
    """What the folder's validator offers."""

    ops: dict[str, tuple[str, str, Json]]

    def request(self, op: str, body: Any) -> list[str]: ...

    def response(self, op: str, status: int, body: Any) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Checker:
    """Checks messages against the Swagger by operationId. `strict` also reports properties that it does not "
    "name."""

    spec: _Spec

    @classmethod
    def load(cls, folder: Path, *, strict: bool) -> Checker:
        with warnings.catch_warnings():
            # The validator leaves closing its files to the interpreter.
            warnings.simplefilter("ignore", ResourceWarning)
            return cls(_validator(folder).Spec(str(folder / _SWAGGER), strict))

    def operation(self, method: str, path: str) -> str | None:
        """The operationId of a request, None for what the Swagger at hand does not describe."""
        for operation_id, (verb, template, _) in self.spec.ops.items():
            pattern = re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(template))
            if verb.upper() == method and re.fullmatch(pattern, path, re.IGNORECASE):
                return operation_id
        return None

    def errors(self, entry: Entry) -> list[str]:
        """What is wrong with a logged request and its answer."""
        operation_id = self.operation(entry.method, entry.path)
        if operation_id is None:
            return []
        found = [] if entry.request is None else self.spec.request(operation_id, entry.request)
        if entry.response is not None:
            found += self.spec.response(operation_id, entry.status, entry.response)
        return [f"{operation_id}: {one}" for one in found]


def _validator(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("azure_specs_validate", folder / "tools" / "validate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
