"""The cluster's API server, asked over HTTPS with Python's own library: no kubectl is needed."""

import http.client
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodeprep.errors import LabError

_SECONDS = 10.0
_OK = range(200, 300)
_PATCH = "application/merge-patch+json"


@dataclass(frozen=True, kw_only=True)
class Api:
    """Where it listens on the host's loopback, whom to trust there, and what opens it."""

    port: int
    certificate: Path
    token: str = field(repr=False)

    def create(self, collection: str, thing: dict[str, Any]) -> None:
        """Make an object in a collection, such as ``/api/v1/nodes``. Raises as ``request``."""
        self.request("POST", collection, thing)

    def patch(self, path: str, part: dict[str, Any]) -> None:
        """Merge a part into the object at this path. Raises as ``request``."""
        self.request("PATCH", path, part, kind=_PATCH)

    def has(self, path: str) -> bool:
        """Tell whether it has an object here; False too where it does not answer."""
        try:
            self.request("GET", path)
        except LabError:
            return False
        return True

    def ready(self) -> bool:
        """Tell whether it says that it is ready; False too where nobody listens yet."""
        return self.has("/readyz")

    def request(
        self, method: str, path: str, thing: object = None, *, kind: str = "application/json"
    ) -> str:
        """Ask, and return the answer's text.

        Raises LabError if it refuses, in its words, or does not answer within 10 seconds.
        """
        body = None if thing is None else json.dumps(thing)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        try:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=_SECONDS, context=self._trust()
            )
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"the API server does not answer: {error}") from error
        if answer.status not in _OK:
            raise LabError(f"the API server refuses {method} {path}: {text}")
        return text

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)
