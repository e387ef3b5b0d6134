"""Prepare on the controller what machines with another kind of processor need, and show how that goes on.

An action plugin, because compiling takes minutes: each line of `tools/prepare.py` is shown when it comes.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = ".venv/bin/python"
LAST_LINES = 30
"""How many of a failed run are said once more."""


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Task arguments and what is returned: see the module of the same name."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False
    _VALID_ARGS = frozenset(("architectures",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Prepare."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        noted = PROJECT / ".lab/artifacts.json"
        before = noted.read_text(encoding="utf-8") if noted.exists() else ""
        named = [word for name in self._task.args["architectures"] for word in ("--architecture", str(name))]
        lines = []
        with subprocess.Popen(
            [PYTHON, "-m", "tools.prepare", "programs", "wheels", *named],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout or []:
                Display().display(line.rstrip())
                lines.append(line)
        if process.returncode:
            return {**result, "failed": True, "msg": "".join(lines[-LAST_LINES:]).strip()}
        after = noted.read_text(encoding="utf-8")
        return {**result, "changed": after != before, "artifacts": json.loads(after)}
