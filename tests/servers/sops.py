"""Files of secrets as `sops` writes them, and one that encrypts them anew where a test needs another content.

Those in `tests/payloads/sops` were written by sops 3.13.3 for the key beside them, which opens nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PAYLOADS = Path(__file__).parents[1] / "payloads" / "sops"
_AT = "2026-11-26T18:00:00Z"


def payload(name: str) -> str:
    return (PAYLOADS / f"{name}.yaml").read_text()


def key_file(folder: Path) -> Path:
    """Copy the key where only its owner may read it."""
    path = folder / "age.txt"
    shutil.copyfile(PAYLOADS / "age.txt", path)
    path.chmod(0o600)
    return path


def encrypted(values: Mapping[str, str], pyrage: Any, *, key: bytes | None = None) -> str:
    """Encrypt texts by the rules of the format, for the key of the payloads."""
    data_key = key or secrets.token_bytes(32)
    lines = (PAYLOADS / "age.txt").read_text().splitlines()
    identity = pyrage.x25519.Identity.from_str(next(line for line in lines if line.startswith("AGE-")))
    mac = hashlib.sha512("".join(values.values()).encode()).hexdigest().upper()
    armoured = pyrage.encrypt(data_key, [identity.to_public()], armored=True).decode()
    about = {"age": [{"enc": armoured}], "lastmodified": _AT, "mac": sealed(data_key, mac, _AT), "version": "3.13.3"}
    closed = {name: sealed(data_key, value, f"{name}:") for name, value in values.items()}
    return yaml.safe_dump({**closed, "sops": about}, sort_keys=False, allow_unicode=True)


def sealed(key: bytes, text: str, bound: str) -> str:
    nonce = secrets.token_bytes(32)
    closed = AESGCM(key).encrypt(nonce, text.encode(), bound.encode())
    data, tag, iv = (base64.b64encode(part).decode() for part in (closed[:-16], closed[-16:], nonce))
    return f"ENC[AES256_GCM,data:{data},iv:{iv},tag:{tag},type:str]"
