"""Debian packages: the lists, what roles install, and what is said where apt is missing."""

import re
import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.preparing import packages
from tools.preparing.running import PrepareError

PROJECT = Path(__file__).resolve().parents[2]
LISTS = packages.lists()


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """All mappings within a document."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from walk(item)


def words(node: Any) -> Iterator[str]:
    """All package names within a value: a name, a list, or names by Debian release."""
    if isinstance(node, str):
        # A name by a template, postgresql-{{ version }}, stands for the package that depends on the release's own.
        name = re.sub(r"-?\{\{.*?\}\}$", "", node).split("=")[0]
        if name and "{{" not in name:
            yield name
    elif isinstance(node, list):
        for item in node:
            yield from words(item)


def installed_by(files: str) -> set[str]:
    found: set[str] = set()
    for file in sorted(PROJECT.glob(files)):
        for task in walk(yaml.safe_load(file.read_text())):
            found |= {
                *words(task.get("packages_names", [])),
                *words(task.get("ansible.builtin.apt", {}).get("name", [])),
            }
    return found


def test_every_package_that_a_role_installs_is_in_the_base_tree() -> None:
    found = installed_by("roles/*/tasks/*.yml")
    assert {"nginx", "postgresql"} <= found, "the search itself works"
    assert found - set(LISTS["base"]) == set(chain.from_iterable(LISTS["groups"].values()))


def test_molecule_downloads_nothing_either() -> None:
    found = installed_by("molecule/*/*.yml")
    roles = set(chain.from_iterable(LISTS["groups"].values()))
    assert found - set(LISTS["base"]) - roles == set(LISTS["molecule"])
    assert set(packages.kept()) == {*LISTS["molecule"], *roles}


def test_lists_are_sorted_and_name_nothing_twice() -> None:
    for names in [LISTS["base"], LISTS["molecule"], *LISTS["groups"].values(), *LISTS["controller"].values()]:
        assert names == sorted(set(names))
    assert not set(LISTS["base"]) & set(packages.kept())


def test_only_what_is_missing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(packages, "installed", lambda name: name not in {"nftables", "chromium"})
    monkeypatch.setattr(packages, "install", lambda names: calls.append(list(names)))
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    packages.prepare(["default"])
    packages.prepare(["default", "tests"])
    packages.prepare(["build"])
    assert calls == [["nftables"], ["nftables", "chromium"]]


def test_an_unknown_set_is_said() -> None:
    with pytest.raises(PrepareError, match="no set of packages 'moon'"):
        packages.prepare(["default", "moon"])


def test_without_apt_the_missing_commands_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name in {"apt-get", "nft"} else f"/bin/{name}")
    with pytest.raises(PrepareError, match=r"missing: nft\. Install .* nftables"):
        packages.prepare(["default"])
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == "apt-get" else f"/bin/{name}")
    packages.prepare(["default"])
    assert "all commands are there" in capsys.readouterr().out
