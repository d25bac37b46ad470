"""A JSON object in a file of the user's: read whole, written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motion.errors import MotionError


@dataclass(frozen=True)
class StoredObject:
    """The object in `path`, whose values are all of one `kind`; no file is an empty one."""

    path: Path
    kind: type[Any]

    def read(self) -> dict[str, Any]:
        """What is in it. Raises MotionError for a damaged file."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise MotionError(f"{self.path} cannot be read ({error}): mend it, or move it away") from error
        if not isinstance(found, dict) or not all(isinstance(value, self.kind) for value in found.values()):
            raise MotionError(f"{self.path} is damaged: mend it, or move it away")
        return found

    def write(self, values: Mapping[str, Any]) -> None:
        """Put these in place of what is there. Raises MotionError if they cannot be written."""
        part = self.path.with_suffix(".partial")
        try:
            part.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
            part.replace(self.path)
        except OSError as error:
            raise MotionError(f"{self.path} cannot be written ({error.strerror}): free some room") from error
        finally:
            part.unlink(missing_ok=True)
