"""What makes the emulator's answers believable over TLS: an authority of its own, made anew at each start."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from testbed.certificates import Authority


@dataclass(frozen=True, slots=True)
class Tls:
    """Where a client finds the authority's certificate, and the server's context."""

    ca_file: Path
    context: ssl.SSLContext


def make_tls(folder: Path, host: str) -> Tls:
    """Write ca.pem, server.crt and server.key into `folder`; the certificate is good for `host` and loopback."""
    authority = Authority("Farmstead testbed: Azure emulator")
    ca_file = folder / "ca.pem"
    ca_file.write_bytes(authority.certificate)
    named = not host.replace(".", "").isdigit() and ":" not in host
    pair = authority.server(
        addresses=["127.0.0.1"] if named else sorted({"127.0.0.1", host}),
        names=["localhost", host] if named else ["localhost"],
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pair.write(folder, "server"))
    return Tls(ca_file, context)
