"""Each alert has its page, and each page helps."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from infra.config import schema
from tests.infra.observability.healthy import PLATFORM, rules

FOLDER = Path(__file__).parents[3] / "docs/runbooks"
ALERTS = {alert.name: {a.severity for g in (*rules().groups, *PLATFORM.groups) for a in g.alerts if a.name == alert.name}
          for group in (*rules().groups, *PLATFORM.groups) for alert in group.alerts}  # fmt: skip
PAGES = {page.stem: page.read_text() for page in FOLDER.glob("*.md") if page.stem != "README"}


def test_alerts_and_pages_are_one_to_one() -> None:
    assert set(PAGES) == set(ALERTS)
    index = (FOLDER / "README.md").read_text()
    listed = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| ([\w, ]+) \|$", index, re.MULTILINE))
    assert {name: set(severities.split(", ")) for name, severities in listed.items()} == ALERTS


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_a_page_says_what_to_do(name: str) -> None:
    page = PAGES[name]
    assert page.startswith(f"# {name}\n")
    assert re.findall("^## (.+)$", page, re.MULTILINE) == ["Look first", "Likely causes", "What to do", "Silence"]
    assert "**What users feel.**" in page
    told = page.partition("**What users feel.**")[0]
    assert {severity for severity in ("page", "ticket") if severity in told} == ALERTS[name]
    for linked in re.findall(r"\]\((\w+)\.md\)", page):
        assert linked in PAGES


def test_keys_of_the_configuration_that_pages_name_exist() -> None:
    groups: dict[str, set[str]] = {}
    for owner in (schema.StackConfig, schema.Model):
        for name, kind in get_type_hints(owner).items():
            for member in (kind, *get_args(kind)):
                if isinstance(member, type) and is_dataclass(member):
                    groups.setdefault(name, set()).update(field.name for field in fields(member))
    named = {
        match
        for page in PAGES.values()
        for match in re.findall(r"`(\w+)\.(\w+)(?:: [\w-]+)?`", page)
        if match[0] in groups
    }
    assert len(named) > 15
    assert {(group, key) for group, key in named if key not in groups[group]} == set()
