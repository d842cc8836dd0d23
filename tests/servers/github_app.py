"""What GitHub answers to an app: where it is installed, and tokens for a claim that is signed with the app's key."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

APP, INSTALLATION = "4711", 815
DOORS = (("GET", "/repos/acme/flows/installation"), ("POST", "/app/installations/{id:int}/access_tokens"))
_LONGEST_S = 600


def _new_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@dataclass
class AppDoor:
    """An app that is installed for `acme/flows`. `tokens` are those that hold, `heard` is told of each new one."""

    tokens: set[str]
    key: RSAPrivateKey = field(default_factory=_new_key)
    lasts: timedelta = timedelta(hours=1)
    heard: Callable[[str], None] = lambda _token: None
    installation: int = INSTALLATION
    issued: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def pem(self) -> str:
        content = self.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        return content.decode()

    def revoke(self) -> None:
        """Let no token hold that was given so far."""
        self.tokens.difference_update(self.issued)

    async def answer(self, request: Request) -> Response:
        """Answer to one of `DOORS`."""
        wrong = self._wrong(request)
        if wrong is not None:
            return wrong
        if request.method == "GET":
            return JSONResponse({"id": self.installation, "app_id": int(APP)})
        if request.path_params["id"] != self.installation or (await request.json()) != {"repositories": ["flows"]}:
            return JSONResponse({"message": "Not Found"}, status_code=404)
        token = f"ghs_{uuid.uuid4().hex}"
        self.issued.append(token)
        self.tokens.add(token)
        self.heard(token)
        until = datetime.now(UTC).replace(microsecond=0) + self.lasts
        body = {"token": token, "expires_at": until.isoformat().replace("+00:00", "Z"), "permissions": {}}
        return JSONResponse(body, status_code=201)

    def _wrong(self, request: Request) -> Response | None:
        """Return the refusal of a claim that GitHub would not believe."""
        reason = self._reason(request.headers.get("authorization", ""))
        if reason is None:
            return None
        self.refused.append(reason)
        return JSONResponse({"message": reason}, status_code=401)

    def _reason(self, header: str) -> str | None:
        parts = header.removeprefix("Bearer ").split(".")
        if len(parts) != 3:
            return "A JSON web token could not be decoded"
        head, claim, signature = map(_decoded, parts)
        try:
            self.key.public_key().verify(signature, ".".join(parts[:2]).encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            return "A JSON web token could not be decoded"
        said: dict[str, Any] = json.loads(claim)
        now = time.time()
        if json.loads(head) != {"alg": "RS256", "typ": "JWT"} or said["iss"] != APP:
            return "Integration not found"
        if not now - 120 < said["iat"] <= now - 30:
            return "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
        if not now < said["exp"] <= now + _LONGEST_S or said["exp"] - said["iat"] > _LONGEST_S:
            return "'Expiration time' claim ('exp') is too far in the future"
        return None


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
