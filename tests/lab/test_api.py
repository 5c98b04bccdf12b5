"""The API server is asked over HTTPS, and believed only with its own certificate."""

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from nodeprep.errors import LabError
from nodeprep.lab.api import Api

TOKEN = "t0ken"


class Handler(BaseHTTPRequestHandler):
    """Answers with what it was asked, to those who have the token."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PATCH = do_GET  # noqa: N815 - http.server's names

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        asked = {
            "method": self.command,
            "kind": self.headers["Content-Type"],
            "body": self.rfile.read(length).decode(),
        }
        allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps(asked).encode() if allowed else b"who are you")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def certificate(folder: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1 and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lab")])
    now = dt.datetime.now(dt.UTC)
    place = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([place]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "server.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield Api(port=server.server_port, certificate=pem, token=TOKEN)
        server.shutdown()
        thread.join()


def test_an_object_is_sent_as_json_and_a_part_as_a_merge(api: Api) -> None:
    sent = json.loads(api.request("POST", "/things", {"a": 1}))
    assert sent == {"method": "POST", "kind": "application/json", "body": '{"a": 1}'}
    merged = json.loads(api.request("PATCH", "/things/a", {}, kind="application/merge-patch+json"))
    assert merged["kind"] == "application/merge-patch+json"
    api.create("/things", {})
    api.patch("/things/a", {})


def test_it_is_ready_when_it_says_so(api: Api) -> None:
    assert api.ready()


def test_a_refusal_is_told_in_its_words(api: Api) -> None:
    stranger = Api(port=api.port, certificate=api.certificate, token="other")
    with pytest.raises(LabError, match="refuses POST /things: who are you"):
        stranger.create("/things", {})


def test_another_server_is_not_believed(api: Api, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other")
    with pytest.raises(LabError, match="does not answer"):
        Api(port=api.port, certificate=other, token=TOKEN).request("GET", "/")


def test_where_nobody_listens_or_nothing_is_made_yet_it_is_not_ready(api: Api) -> None:
    assert not Api(port=1, certificate=api.certificate, token=TOKEN).ready()
    absent = Path("/nonexistent/apiserver.crt")
    assert not Api(port=api.port, certificate=absent, token=TOKEN).ready()
