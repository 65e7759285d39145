"""The page about the server names what there is."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

from service.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "server.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (?:`(.*?)`|(required)|) \|", re.MULTILINE)


def test_settings_are_told_with_their_defaults_and_no_others() -> None:
    told = {name: default or required for name, default, required in ROW.findall(PAGE.read_text())}
    settings = {
        setting.name.upper(): "required" if setting.default is MISSING else str(setting.default or "")
        for setting in fields(Settings)
    }
    assert told == settings
