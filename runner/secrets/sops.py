"""Files that SOPS encrypted: names in the open, values encrypted, the whole under a code that shows any change.

What is read is the YAML form with age recipients. Each value is `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`, bound to
the keys above it; `sops.mac` is the hash of all values in their order, encrypted and bound to `sops.lastmodified`.
The data key lies in `sops.age`, once for each recipient. No error here quotes a value.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runner.errors import InvalidError

SECTION: Final = "sops"
_SEALED: Final = re.compile(r"ENC\[AES256_GCM,data:([^,]*),iv:([^,]*),tag:([^,]*),type:([a-z]+)\]")
_KEY_BYTES: Final = 32
_SEED_OF_ENCRYPTED: Final = hashlib.sha256(b"sops").digest()
"""What the hash begins with when it covers encrypted values alone."""

Path = tuple[str, ...]
OpenKey = Callable[[str], bytes]
"""What age encrypted, armoured -> the content. Raises `InvalidError`."""


@dataclass(frozen=True, slots=True)
class SopsFile:
    """A document as it was read, still closed."""

    values: Mapping[str, Any]
    about: Mapping[str, Any]

    @classmethod
    def of(cls, document: Any) -> SopsFile:
        """Return the file that a parsed document is. Raises `InvalidError` `secret.sealed.invalid`."""
        about = document.get(SECTION) if isinstance(document, dict) else None
        if not isinstance(about, dict):
            text = "the file was not encrypted by SOPS: it has no section `sops`"
            hint = "take it out of the history too, if there are secrets in it, and change them"
            raise InvalidError("secret.sealed.invalid", text, hint=hint)
        return cls({str(name): value for name, value in document.items() if name != SECTION}, about)

    @property
    def names(self) -> list[str]:
        """Return the top keys below which something is encrypted, in their order; no key is needed for that."""
        return [name for name, value in self.values.items() if _holds_sealed(value)]

    def mark(self, name: str) -> str:
        """Return what changes when what is encrypted under a top key does; it tells nothing about the value."""
        return hashlib.sha256(json.dumps(self.values[name], sort_keys=True).encode()).hexdigest()

    def opened(self, open_key: OpenKey) -> dict[str, str]:
        """Return the secrets by name, once the file as a whole was verified. A map or a list becomes JSON.

        Raises:
            InvalidError: `secret.sealed.invalid`, `secret.sealed.key`, `secret.sealed.mac`.
        """
        opening = _Opening(self._data_key(open_key), is_of_sealed_alone=_is_true(self.about.get("mac_only_encrypted")))
        values = {name: opening.value(value, (name,)) for name, value in self.values.items()}
        mac = opening.mac(str(self.about.get("mac", "")), str(self.about.get("lastmodified", "")))
        if not hmac.compare_digest(mac.encode(), opening.digest.encode()):
            raise _changed("its values are not those that it was encrypted with")
        return {name: _text(values[name]) for name in self.names}

    def _data_key(self, open_key: OpenKey) -> bytes:
        if self.about.get("key_groups") or _is_true(self.about.get("shamir_threshold")):
            raise InvalidError("secret.sealed.key", "it needs several keys (key groups), which cannot be given here")
        recipients = self.about.get("age")
        sealed = [each["enc"] for each in recipients if _is_recipient(each)] if isinstance(recipients, list) else []
        if not sealed:
            raise InvalidError("secret.sealed.key", "it has no age recipient", hint="sops encrypt --age age1… FILE")
        for number, each in enumerate(sealed, start=1):
            try:
                key = open_key(each)
            except InvalidError:
                if number == len(sealed):
                    raise
                continue
            if len(key) == _KEY_BYTES:
                return key
        raise InvalidError("secret.sealed.invalid", "what its recipients get is no data key")


class _Opening:
    """Decrypts one value after the other, and hashes them all."""

    def __init__(self, key: bytes, *, is_of_sealed_alone: bool) -> None:
        self._cipher = AESGCM(key)
        self._is_of_sealed_alone = is_of_sealed_alone
        self._hash = hashlib.sha512(_SEED_OF_ENCRYPTED if is_of_sealed_alone else b"")

    @property
    def digest(self) -> str:
        return self._hash.hexdigest().upper()

    def value(self, value: Any, path: Path) -> Any:
        """Return a value in the clear. A list adds nothing to the path of what is in it."""
        if isinstance(value, dict):
            return {name: self.value(inner, (*path, str(name))) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, path) for inner in value]
        sealed = _SEALED.fullmatch(value) if isinstance(value, str) else None
        if sealed is None:
            if value is not None and not self._is_of_sealed_alone:
                self._hash.update(_hashed(value))
            return value
        plain = self._opened(sealed, ":".join(path) + ":", f"the value of {'.'.join(path)}")
        self._hash.update(plain)
        return _typed(plain, sealed[4], ".".join(path))

    def mac(self, sealed: str, bound: str) -> str:
        """Return the hash that the file was encrypted with."""
        found = _SEALED.fullmatch(sealed)
        if found is None:
            raise _changed("it has no `mac`")
        return self._opened(found, bound, "its `mac`").decode("ascii", "replace")

    def _opened(self, sealed: re.Match[str], bound: str, what: str) -> bytes:
        try:
            data, nonce, tag = (base64.b64decode(sealed[part], validate=True) for part in (1, 2, 3))
            return self._cipher.decrypt(nonce, data + tag, bound.encode())
        except (InvalidTag, ValueError, binascii.Error):
            raise _changed(f"{what} was changed, or moved from another place") from None


def _changed(why: str) -> InvalidError:
    return InvalidError(
        "secret.sealed.mac", f"the file was changed without SOPS: {why}", hint="edit it with: sops edit"
    )


def _holds_sealed(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(_holds_sealed(inner) for inner in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and _SEALED.fullmatch(value) is not None


def _is_recipient(each: Any) -> bool:
    return isinstance(each, dict) and isinstance(each.get("enc"), str)


def _is_true(value: Any) -> bool:
    return value is True or str(value).lower() in {"1", "t", "true"} or (isinstance(value, int) and value > 1)


def _hashed(value: Any) -> bytes:
    """Return what is hashed of a value that is not encrypted, as Go writes it."""
    if isinstance(value, bool):
        return b"True" if value else b"False"
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f").removesuffix(".0").encode()
    return str(value).encode()


def _typed(plain: bytes, kind: str, name: str) -> Any:
    try:
        text = plain.decode()
        return _READERS.get(kind, str)(text)
    except ValueError:
        raise InvalidError("secret.sealed.invalid", f"the value of {name} is no {kind}, or no UTF-8 text") from None


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "int": int,
    "float": float,
    "bool": lambda text: text.lower() == "true",
}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
