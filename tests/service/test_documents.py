"""The page about the server names what there is."""

from dataclasses import fields
from pathlib import Path

from service.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "server.md"


def test_every_setting_is_told_with_its_default() -> None:
    page = PAGE.read_text()
    for setting in fields(Settings):
        row = next((line for line in page.splitlines() if line.startswith(f"| `{setting.name.upper()}` |")), "")
        assert row, f"docs/server.md lacks {setting.name.upper()}"
        if isinstance(setting.default, str | int | float):
            assert f"`{setting.default}`" in row or f"`{setting.default:g}`" in row, row
