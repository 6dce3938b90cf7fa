"""What a person reads when a node is ready: who and where it is, and what to type next."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.api.node_views import NodeView

UNSPECIFIED = ("0.0.0.0", "::")
API_DEFAULT = "http://127.0.0.1:8420"
NETWORK_DEFAULT = "main"
"""What `hansa account create` makes an account for if nothing is said."""
ADMISSION = (
    "  admission  being worked for, once: until it is done, nothing is offered or paid for "
    "(hansa status)"
)


def banner(node: NodeView, *, data_dir: Path, data_default: Path, activate: Path | None) -> str:
    """Return the text; every command in it works when pasted into another terminal.

    Args:
        data_default: Where commands look for the operator's token if nothing is said.
        activate: The script that puts `hansa` on the path, when it is not there already.
    """
    at = "" if node.api_url == API_DEFAULT else f" --node {node.api_url}"
    is_default = node.network == NETWORK_DEFAULT
    network = "" if is_default else f" --network {node.network}"
    elsewhere = "  hansa run" + ("" if is_default else f" --set node.network={node.network}")
    folder = "" if data_dir == data_default else f" --data-dir {data_dir}"
    far = [one for one in node.addresses if "/127.0.0.1/" not in one]
    lines = [
        "",
        f"Hansa {node.version} is running on network {node.network!r}.",
        f"  identity   {node.peer_id}",
        *(f"  address    {address}" for address in node.addresses),
        f"  API        {node.api_url}",
        f"  try it     {node.docs_url}",
        f"  data       {data_dir} (operator's token: operator.token)",
        *([] if node.operator_account else [ADMISSION]),
        "",
        "Next, in another terminal:",
        *([f"  . {activate}"] if activate is not None else []),
        f"  hansa status{at}",
        f"  hansa account create me{network}",
        f"  hansa models create --set name='My model'{at}",
        f"  hansa models search model{at}",
        f"  hansa keys create my-agent{at}{folder}",
        *(
            line
            for address in far[:1]
            for line in ("On another machine:", f"{elsewhere} --set p2p.bootstrap={address}")
        ),
        "",
    ]
    return "\n".join(lines)


def dialable(addresses: Sequence[str], hosts: Sequence[str]) -> list[str]:
    """Return multiaddresses that peers can dial: `0.0.0.0` becomes each address there is.

    Args:
        hosts: Where this machine is reached, best first; names among them are left out.
    """
    found: list[str] = []
    for address in addresses:
        _, family, host, *rest = address.split("/")
        if host not in UNSPECIFIED:
            found.append(address)
            continue
        known = ["/".join(("", family, one, *rest)) for one in hosts if _family(one) == family]
        found += known or [address]
    return found


def activation() -> Path | None:
    """Return the script that puts this program's `hansa` on the path, unless it is there."""
    folder = Path(sys.executable).parent
    there = shutil.which("hansa")
    if there is not None and Path(there).parent == folder:
        return None
    script = folder / "activate"
    return script if script.exists() and (folder / "hansa").exists() else None


def _family(host: str) -> str:
    try:
        return f"ip{ip_address(host).version}"
    except ValueError:
        return "name"
