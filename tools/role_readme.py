"""Writes each role's README.md from its ``meta/argument_specs.yml`` and ``meta/main.yml``.

``python -m tools.role_readme`` writes those that differ; with ``--check`` it only names them, and fails.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
ROLES = ROOT / "roles"
# C(code), V(value), O(option), E(variable), I(italic), B(bold) of Ansible's documentation.
MARKUP = re.compile(r"\b([CVOEIB])\(((?:[^()]|\([^()]*\))*)\)")
QUOTES = {"I": "*", "B": "**"}


def roles() -> list[Path]:
    """The roles' folders."""
    return sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml"))


def load(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; nothing where it is empty."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(content or {})


def markdown(text: str) -> str:
    """Ansible's markup as Markdown, on one line.

    >>> markdown("Sets V(true) in C(/etc/x).")
    'Sets `true` in `/etc/x`.'
    """
    quoted = MARKUP.sub(lambda found: f"{QUOTES.get(found[1], '`')}{found[2]}{QUOTES.get(found[1], '`')}", text)
    return " ".join(quoted.split())


def paragraphs(description: str | list[str]) -> list[str]:
    """A description, which may be one text or a list, as Markdown."""
    return [markdown(text) for text in ([description] if isinstance(description, str) else description)]


def literal(value: Any) -> str:
    """A default value as it is written in YAML, on one line.

    >>> literal(True), literal(""), literal([1])
    ('`true`', '`""`', '`[1]`')
    """
    return f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"


def row(name: str, option: dict[str, Any]) -> str:
    """An option's line of the table."""
    kind = f"{option['type']} of {option['elements']}" if "elements" in option else option["type"]
    default = "**required**" if option.get("required") else literal(option["default"]) if "default" in option else ""
    text = " ".join(paragraphs(option["description"]))
    if "choices" in option:
        text += f" One of {', '.join(literal(choice) for choice in option['choices'])}."
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{name}`", kind, default, text)) + " |"


def example(role: Path, required: list[str]) -> list[str]:
    """The playbook that the role's ``example.yml`` is, complete; of a role without one the call alone."""
    path = role / "example.yml"
    if path.exists():
        # The page has the collection's installation and how to run it.
        before = "Complete, to run as [Take the roles](../../docs/collection.md) says:"
        return [before, "```yaml", *path.read_text(encoding="utf-8").splitlines(), "```"]
    call = ["- role: hashistack.lab." + role.name, *(["  vars:"] if required else [])]
    return ["```yaml", *call, *(f"    {name}: ..." for name in required), "```"]


def readme(role: Path) -> str:
    """The README of a role."""
    specification = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    info = load(role / "meta" / "main.yml")["galaxy_info"]
    options: dict[str, dict[str, Any]] = specification["options"]
    required = [name for name, option in options.items() if option.get("required")]
    releases = ", ".join(
        f"{platform['name']} {release}" for platform in info["platforms"] for release in platform["versions"]
    )
    lines = [
        "<!-- Written by `python -m tools.role_readme` from meta/argument_specs.yml. -->",
        f"# {role.name}",
        "",
        f"{markdown(specification['short_description'])}.",
        "",
        *example(role, required),
        "",
        *(f"- {text}" for text in paragraphs(specification.get("description", []))),
        "",
        f"Runs on {releases}, with ansible-core {info['min_ansible_version']} or newer.",
        "",
        "## Options",
        "",
        "| option | type | default | what it is |",
        "| --- | --- | --- | --- |",
        *(row(name, option) for name, option in options.items()),
    ]
    if (ROOT / "molecule" / role.name).is_dir():
        lines += ["", f"Tested by `.venv/bin/molecule test -s {role.name}`, see [docs](../../docs/molecule.md)."]
    return "\n".join(lines) + "\n"


def outdated() -> list[Path]:
    """The READMEs that are not what they should be."""
    paths = [role / "README.md" for role in roles()]
    return [path for path in paths if not path.exists() or path.read_text(encoding="utf-8") != readme(path.parent)]


def main() -> int:
    """Write or check them."""
    parser = argparse.ArgumentParser(prog="role_readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if one is not current")
    check = parser.parse_args().check
    found = outdated()
    for path in found:
        print(f"{path.relative_to(ROOT)} {'is not current' if check else 'written'}")
        if not check:
            path.write_text(readme(path.parent), encoding="utf-8")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main())
