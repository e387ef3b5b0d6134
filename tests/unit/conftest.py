"""Lets the tests import Ansible modules as Ansible does: our module_utils stand beside Ansible's own."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "plugins/module_utils"))
