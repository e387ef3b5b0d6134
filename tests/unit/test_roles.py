"""What every role promises: its options, their defaults and its README say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tools import role_readme

ROLES = role_readme.roles()
pytestmark = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def options(role: Path) -> dict[str, dict[str, Any]]:
    """The options of a role's argument specification."""
    found: dict[str, dict[str, Any]] = role_readme.load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"][
        "options"
    ]
    return found


def defaults(role: Path) -> dict[str, Any]:
    """A role's default values."""
    return role_readme.load(role / "defaults" / "main.yml")


def test_readme_is_current(role: Path) -> None:
    assert role / "README.md" not in role_readme.outdated(), "run `python -m tools.role_readme`"


def test_defaults_are_those_of_the_specification(role: Path) -> None:
    described = {name: option["default"] for name, option in options(role).items() if not option.get("required")}
    assert defaults(role) == described


def test_a_required_option_has_no_default(role: Path) -> None:
    required = {name: option for name, option in options(role).items() if option.get("required")}
    assert not [name for name, option in required.items() if "default" in option or name in defaults(role)]


def test_options_bear_the_roles_name_and_are_described(role: Path) -> None:
    for name, option in options(role).items():
        assert name.startswith(f"{role.name}_")
        assert option["description"], name
        assert option["type"] != "list" or "elements" in option, name


def test_options_that_hold_a_secret_are_never_shown(role: Path) -> None:
    """Ansible shows a role's arguments, with `-v` and where they do not fit, unless their specification says no_log."""
    for name, option in options(role).items():
        secret = re.search(r"_(token|password|shares|secret|gossip_key)$", name) is not None
        assert bool(option.get("no_log")) == secret, f"{name}: no_log must be {secret}"


def test_each_default_has_a_line_of_comment(role: Path) -> None:
    lines = (role / "defaults" / "main.yml").read_text(encoding="utf-8").splitlines()
    bare = [
        line for before, line in zip(["", *lines], lines, strict=False) if re.match(r"\w", line) and before[:1] != "#"
    ]
    assert not bare


def test_nothing_of_the_lab_is_in_a_role(role: Path) -> None:
    """A role knows neither groups nor the lab's variables, or it could not be taken into production."""
    files = [path for path in role.rglob("*") if path.is_file() and path.suffix in (".yml", ".j2")]
    found = [
        f"{path.name}: {word}"
        for path in files
        for word in re.findall(r"\bgroups\[|(?<!python:)\blab_[a-z]\w*", path.read_text(encoding="utf-8"))
    ]
    assert not found


def test_the_releases_are_both(role: Path) -> None:
    info = role_readme.load(role / "meta" / "main.yml")["galaxy_info"]
    assert info["platforms"] == [{"name": "Debian", "versions": ["bookworm", "trixie"]}]
    assert info["license"] == "MIT"
