"""An authority of one test, and what it signs."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority"]


class Authority:
    """Signs certificates for a day; all are PEM texts."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.certificate = self._signed("authority", self._key.public_key(), is_authority=True)

    def issue(self, name: str, passphrase: str | None = None) -> tuple[str, str]:
        """Return a certificate for `name` and this machine, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        kept = serialization.NoEncryption() if passphrase is None else _encryption(passphrase)
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self._signed(name, key.public_key()), key.private_bytes(encoding, form, kept).decode()

    def _signed(self, name: str, key: ec.EllipticCurvePublicKey, *, is_authority: bool = False) -> str:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _encryption(passphrase: str) -> serialization.KeySerializationEncryption:
    return serialization.BestAvailableEncryption(passphrase.encode())
