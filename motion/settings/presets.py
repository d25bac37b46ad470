"""Settings that a user keeps under a name, in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motion.errors import MotionError
from motion.fields.table import Image
from motion.settings.tab import TAB_FIELDS, Tab

KEPT = tuple(row.name for row in TAB_FIELDS.values() if row.name != "enabled" and not isinstance(row, Image))
"""Settings that a preset holds: all that text can hold, but not the switch."""


class Presets:
    """The presets in `path`, a JSON object of objects by name; no file is no presets."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """In the order of the alphabet. Raises MotionError for a damaged file."""
        return sorted(self._read(), key=str.casefold)

    def get(self, name: str) -> Tab:
        """A preset's settings; what it does not name has its default, and what is no longer valid is refused.

        Raises MotionError if there is none of that name.
        """
        presets = self._read()
        if name not in presets:
            raise MotionError(f"there is no preset {name!r}: choose one of {', '.join(self.names()) or '(none yet)'}")
        kept = {key: value for key, value in presets[name].items() if key in KEPT}
        return Tab(**kept)

    def put(self, name: str, tab: Tab) -> None:
        """Keep `tab` as `name`, in place of what had that name. Raises MotionError if it cannot be written."""
        if not name.strip():
            raise MotionError("a preset needs a name: type one")
        self._write({**self._read(), name.strip(): {key: getattr(tab, key) for key in KEPT}})

    def drop(self, name: str) -> None:
        """Forget `name`, if it is there."""
        self._write({kept: preset for kept, preset in self._read().items() if kept != name})

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            presets = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise MotionError(f"{self.path} cannot be read ({error}): mend it, or move it away") from error
        if not isinstance(presets, dict) or not all(isinstance(preset, dict) for preset in presets.values()):
            raise MotionError(f"{self.path} holds no presets: mend it, or move it away")
        return presets

    def _write(self, presets: Mapping[str, Mapping[str, Any]]) -> None:
        part = self.path.with_suffix(".partial")
        try:
            part.write_text(json.dumps(presets, indent=2, ensure_ascii=False), encoding="utf-8")
            part.replace(self.path)
        except OSError as error:
            raise MotionError(f"{self.path} cannot be written ({error.strerror}): free some room") from error
        finally:
            part.unlink(missing_ok=True)
