"""Lets the tests import what Ansible knows as the collection, which is this project, by Ansible's own loader."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("ANSIBLE_CONFIG", str(Path(__file__).resolve().parents[2] / "ansible.cfg"))

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader()
