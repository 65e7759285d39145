"""The build context: what `.dockerignore` leaves in it, and when it counts as changed."""

import os
from pathlib import Path

import pytest

from local.project import ROOT
from local.providers.docker import context

TREE = ("Dockerfile", "app/main.py", "app/main.pyc", "app/data/big.bin", "docs/a.md", "docs/deep/b.md", "notes.txt")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("ignored", "left"),
    [
        ("", set(TREE)),
        ("# a comment\n\ndocs\n", {name for name in TREE if not name.startswith("docs/")}),
        ("/docs/\n", {name for name in TREE if not name.startswith("docs/")}),
        ("*.txt\n*.pyc", set(TREE) - {"notes.txt"}),  # a pattern without a slash is one of the root
        ("**/*.pyc", set(TREE) - {"app/main.pyc"}),
        ("docs/*\n!docs/deep", set(TREE) - {"docs/a.md"}),
        ("*\n!app\n**/*.pyc", {"app/main.py", "app/data/big.bin"}),
        ("*\n!app/main.py", {"app/main.py"}),
        ("*\n!notes.???", {"notes.txt"}),
        ("app\n!app/main.py\napp/main.py", set(TREE) - {"app/main.py", "app/main.pyc", "app/data/big.bin"}),
    ],
)
def test_last_matching_rule_decides(tree: Path, ignored: str, left: set[str]) -> None:
    (tree / ".dockerignore").write_text(ignored)
    assert {str(path) for path in context.files(tree)} - {".dockerignore"} == left - {".dockerignore"}


def test_digest_changes_with_content_mode_name_and_options_only(tree: Path) -> None:
    (tree / ".dockerignore").write_text("docs\n.dockerignore")

    def digest(**options: object) -> str:
        return context.digest(tree, tree / "Dockerfile", options)

    seen = [digest()]
    (tree / "docs" / "a.md").write_text("ignored")
    os.utime(tree / "notes.txt", (0, 0))
    assert digest() == seen[0]
    seen.append(digest(target="other"))
    (tree / "notes.txt").write_text("other")
    seen.append(digest())
    (tree / "notes.txt").chmod(0o755)
    seen.append(digest())
    (tree / "notes.txt").rename(tree / "renamed.txt")
    seen.append(digest())
    (tree / "link").symlink_to("renamed.txt")
    seen.append(digest())
    (tree / "Dockerfile").write_text("FROM scratch")
    seen.append(digest())
    assert len(set(seen)) == len(seen)


def test_service_image_holds_the_service_and_nothing_else() -> None:
    names = [str(path) for path in context.files(ROOT)]
    assert "service/__main__.py" in names
    assert [name for name in names if not name.startswith("service/") or "__pycache__" in name] == []
