"""Encrypts tokens and signing secrets in the compacted topic (Fernet: AES-128-CBC and HMAC-SHA256)."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr


class VaultError(Exception):
    """A secret could not be decrypted, or a key is invalid. The message contains neither::

    VaultError
     +-- UnknownEncryptionKeyError   none of the keys decrypts the secret
    """


class UnknownEncryptionKeyError(VaultError):
    """None of the keys decrypts a secret."""


class Vault:
    """Encrypts with the first key and decrypts with any, so that keys can be rotated: comma-separated Fernet keys."""

    def __init__(self, keys: str) -> None:
        self._keys = [SecretStr(key.strip()) for key in keys.split(",")]
        try:
            fernets = [Fernet(key.get_secret_value()) for key in self._keys]
        except ValueError:
            message = "encryption_key is not a valid key; create one with: oms-webhooks new-key"
            raise VaultError(message) from None
        self._first, self._fernet = fernets[0], MultiFernet(fernets)
        self.key_count = len(fernets)

    @staticmethod
    def new_key() -> str:
        return Fernet.generate_key().decode()

    def derived(self, purpose: str) -> Vault:
        """A vault for another purpose, with keys derived from these (HKDF-SHA256). Neither can decrypt secrets of the other.

        All processes with the same encryption_key derive the same keys, so no second secret has to be managed.
        """
        return Vault(",".join(_derived(key.get_secret_value(), purpose) for key in self._keys))

    def seal(self, secret: str) -> str:
        """Encrypt a secret."""
        return self._fernet.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Decrypt a secret.

        Raises:
            UnknownEncryptionKeyError: it was encrypted with another key, or is not an encrypted secret at all.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except (InvalidToken, ValueError):  # UnicodeEncodeError if it is not ASCII
            message = (
                "Its secrets were encrypted with another encryption_key; add that key to OMS_WEBHOOKS_ENCRYPTION_KEY in every "
                "role, comma-separated, after the first."
            )
            raise UnknownEncryptionKeyError(message) from None

    def is_current(self, sealed: str) -> bool:
        """Whether a secret was encrypted with the first key. One of the keys must be able to decrypt it."""
        if self.key_count == 1:
            return True
        try:
            self._first.decrypt(sealed)
        except (InvalidToken, ValueError):
            return False
        return True

    def renew(self, sealed: str) -> str:
        """The same secret, encrypted with the first key.

        Raises:
            VaultError: as :meth:`open`.
        """
        return sealed if self.is_current(sealed) else self.seal(self.open(sealed))


def _derived(key: str, purpose: str) -> str:
    # The key is fully random, so a salt would add nothing (RFC 5869, 3.1).
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"oms-webhooks " + purpose.encode())
    return base64.urlsafe_b64encode(derivation.derive(base64.urlsafe_b64decode(key))).decode()
