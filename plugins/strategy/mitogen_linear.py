"""Mitogen's linear strategy, on all processors.

Mitogen gives each of its processes, and all that they start, a part of the computer's processors. Of two that is one,
and the containers that a run has booted never leave it: half of the computer stays idle.

To learn what a module imports, Mitogen compiles it and all that it imports, Ansible's own libraries anew for each
module: 2.5 s of a run. Here each text is compiled once.
"""

from __future__ import annotations

import functools

import ansible_mitogen.affinity
import ansible_mitogen.loaders
import ansible_mitogen.module_finder
import ansible_mitogen.strategy

ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()
ansible_mitogen.module_finder.compile = functools.cache(compile)


class StrategyModule(
    ansible_mitogen.strategy.StrategyMixin,  # type: ignore[misc]  # mitogen has no types
    ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True),  # type: ignore[misc]
):
    """As Mitogen's own plugin of this name."""
