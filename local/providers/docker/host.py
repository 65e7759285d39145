"""The host's own settings for fetching packages, as files that build steps mount; they never become part of an image."""

import configparser
import io
import os
import re
import shutil
import subprocess
from pathlib import Path

PIP_CONFIGS = ("~/.config/pip/pip.conf", "~/.pip/pip.conf", "/etc/pip.conf")
PIP_VARIABLES = {
    "PIP_INDEX_URL": "index-url",
    "PIP_EXTRA_INDEX_URL": "extra-index-url",
    "PIP_TRUSTED_HOST": "trusted-host",
    "PIP_PROXY": "proxy",
}
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Of apt only the way out: its other settings name files of this host, or are the image's own affair.
APT_PROXY = re.compile(r'^Acquire::(http|https|ftp)(::[^ ]+)*::Proxy(::[^ ]+)? ".+";$', re.MULTILINE)
ANSWER_SECONDS = 20.0
# Build arguments that every Dockerfile has without declaring them, and that no layer keeps.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def secrets(scratch: Path) -> dict[str, Path]:
    """Build secrets by the ids that `service/Dockerfile` mounts: `pip.conf`, `apt.conf` and `ca-bundle`, as far as there are any.

    What has to be written goes into the directory ``scratch``.
    """
    texts = {"pip.conf": _pip(), "apt.conf": _apt()}
    for name, text in texts.items():
        (scratch / name).write_text(text)
    files = {name: scratch / name for name, text in texts.items() if text}
    bundle = Path(os.environ.get("SSL_CERT_FILE", CA_BUNDLE))
    return {**files, "ca-bundle": bundle} if bundle.is_file() else files


def proxies() -> dict[str, str]:
    """The proxy variables that are set."""
    return {name: os.environ[name] for name in PROXIES if name in os.environ}


def _pip() -> str:
    """pip's configuration file as the environment overrules it; empty when neither says anything."""
    config = configparser.ConfigParser(interpolation=None)
    named = [os.environ["PIP_CONFIG_FILE"]] if "PIP_CONFIG_FILE" in os.environ else []
    files = [Path(name).expanduser() for name in (*named, *PIP_CONFIGS)]
    config.read(next((file for file in files if file.is_file()), []))
    said = {option: os.environ[name] for name, option in PIP_VARIABLES.items() if name in os.environ}
    if said:
        config.read_dict({"global": said})
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def _apt() -> str:
    """apt's proxies."""
    apt_config = shutil.which("apt-config")
    if apt_config is None:
        return ""
    done = subprocess.run([apt_config, "dump"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    return "".join(f"{match[0]}\n" for match in APT_PROXY.finditer(done.stdout))
