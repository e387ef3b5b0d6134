"""Mitogen's linear strategy, on all processors.

Mitogen gives each of its processes, and all that they start, a part of the computer's processors. Of two that is one,
and the containers that a run has booted never leave it: half of the computer stays idle.

To learn what a module imports, Mitogen compiles it and all that it imports, Ansible's own libraries anew for each
module: 2.5 s of a run. Here each text is compiled once.

For each task whose module is in a collection, Mitogen looks through all collections on disk, a hundred with Ansible's
package: 0.1 s of a processor for each host. Here that is done once.
"""

from __future__ import annotations

import functools
from typing import Any

import ansible_mitogen.affinity
import ansible_mitogen.loaders
import ansible_mitogen.module_finder
import ansible_mitogen.planner
import ansible_mitogen.strategy
from ansible.collections.list import list_collection_dirs

COLLECTIONS = {path.decode() for path in list_collection_dirs()}


def load_collections(invocation: Any) -> None:
    """Say where collections are, as the function of this name in Mitogen's planner does."""
    invocation._extra_sys_paths |= COLLECTIONS


ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()
ansible_mitogen.module_finder.compile = functools.cache(compile)
ansible_mitogen.planner._load_collections = load_collections


class StrategyModule(
    ansible_mitogen.strategy.StrategyMixin,  # type: ignore[misc]  # mitogen has no types
    ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True),  # type: ignore[misc]
):
    """As Mitogen's own plugin of this name."""
