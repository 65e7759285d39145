"""Large files over HTTP: what has come is kept, and the next attempt goes on where the last one broke off."""

import urllib.error
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.response import addinfourl

CHUNK_BYTES = 1 << 20
ATTEMPTS = 3  # each goes on where the one before broke off
RANGE_BEGINS_AT_THE_END = 416  # HTTP's status for "there is nothing left of it"
PARTIAL = 206

Open = Callable[[dict[str, str]], addinfourl]
"""Asks for the file with the given headers."""


def complete(open_file: Open, part: Path, report: Callable[[int], None]) -> bool:
    """Appends to ``part`` what it lacks; returns whether all of the file has come. ``report`` is told the bytes so far.

    What ``open_file`` raises is passed on.
    """
    return any(_append(open_file, part, report) for _ in range(ATTEMPTS))


def _append(open_file: Open, part: Path, report: Callable[[int], None]) -> bool:
    have = part.stat().st_size if part.exists() else 0
    try:
        answer = open_file({"Range": f"bytes={have}-"} if have else {})
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == RANGE_BEGINS_AT_THE_END:
            return True
        raise
    with answer, part.open("ab" if answer.status == PARTIAL else "wb") as file:
        began = file.tell()
        announced = int(answer.headers.get("Content-Length", 0))
        try:
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                report(file.tell())
        except (OSError, HTTPException):
            return False
        return file.tell() - began >= announced
