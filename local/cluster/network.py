"""The cluster's share of the host's network: one link for the node's address, forwarding, and address translation for pods.

Everything made here carries our name, so that it can be removed without touching what belongs to others.
"""

import json
import shutil
from pathlib import Path

from local.cluster.command import output, succeeds
from local.cluster.layout import NODE_ADDRESS, NODE_LINK, POD_CIDR, POD_LINK, POLICY_TABLE, Layout

TABLE = "llm-stack"
COMMENT = "llm-stack"
# Tables of daemons that leave them behind when they end.
DAEMON_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"), ("ip", POLICY_TABLE))
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    # A pod that reaches another pod of its own bridge through a Service needs its packets shown to netfilter.
    "net/bridge/bridge-nf-call-iptables": "1",
    # The kubelet, containerd and every Go program that watches files take inotify instances; 128 is the kernel's default.
    "fs/inotify/max_user_instances": "8192",
}


def set_up(layout: Layout) -> None:
    """Makes link, rules and sysctls; a second call changes nothing."""
    succeeds(["modprobe", "br_netfilter"])  # built in on some kernels, and then there is nothing to load
    _remember_sysctls(layout)
    for name, value in SYSCTLS.items():
        if (file := Path("/proc/sys") / name).exists():
            file.write_text(value)
    if not succeeds(["ip", "link", "show", NODE_LINK]):
        output(["ip", "link", "add", NODE_LINK, "type", "bridge"])
    output(["ip", "address", "replace", f"{NODE_ADDRESS}/32", "dev", NODE_LINK])
    output(["ip", "link", "set", NODE_LINK, "up"])
    output(
        ["nft", "-f", "-"],
        stdin=f"""
        add table ip {TABLE}
        delete table ip {TABLE}
        table ip {TABLE} {{
            chain postrouting {{
                type nat hook postrouting priority srcnat;
                ip saddr {POD_CIDR} ip daddr != {POD_CIDR} masquerade
            }}
        }}""",
    )
    if shutil.which("iptables"):  # a Docker engine beside us sets the policy of FORWARD to DROP
        for rule in _forward_rules():
            if not succeeds(["iptables", "-w", "-C", *rule]):
                output(["iptables", "-w", "-I", *rule])


def tear_down(layout: Layout) -> None:
    """Removes what :func:`set_up`, the CNI plugins and the daemons made; fine when nothing is there."""
    if shutil.which("iptables"):
        for rule in _forward_rules():
            while succeeds(["iptables", "-w", "-D", *rule]):
                pass
    for family, table in (("ip", TABLE), *DAEMON_TABLES):
        succeeds(["nft", "delete", "table", family, table])
    for link in (POD_LINK, NODE_LINK):
        succeeds(["ip", "link", "delete", link])
    _restore_sysctls(layout)


def _forward_rules() -> list[list[str]]:
    return [["FORWARD", side, POD_CIDR, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT"] for side in ("-s", "-d")]


def _memory(layout: Layout) -> Path:
    return layout.state / "sysctls.json"


def _remember_sysctls(layout: Layout) -> None:
    if not _memory(layout).exists():
        before = {
            name: (Path("/proc/sys") / name).read_text().strip()
            for name in SYSCTLS
            if (Path("/proc/sys") / name).exists()
        }
        _memory(layout).write_text(json.dumps(before))


def _restore_sysctls(layout: Layout) -> None:
    if _memory(layout).exists():
        for name, value in json.loads(_memory(layout).read_text()).items():
            if (file := Path("/proc/sys") / name).exists():  # a module that a reboot has not loaded again
                file.write_text(value)
        _memory(layout).unlink()
