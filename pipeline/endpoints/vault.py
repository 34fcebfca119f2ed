"""Secrets at rest: tokens and signing secrets are encrypted in the compacted topic (Fernet: AES-128-CBC and HMAC-SHA256)."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr


class VaultError(Exception):
    """A secret could not be opened, or a key is not a key. The message holds neither."""


class SealedOtherwiseError(VaultError):
    """None of the keys opens a secret."""


class Vault:
    """Encrypts with the first key, opens with any of them (so that the key can be rotated): comma-separated Fernet keys."""

    def __init__(self, keys: str) -> None:
        self._keys = [SecretStr(key.strip()) for key in keys.split(",")]
        try:
            fernets = [Fernet(key.get_secret_value()) for key in self._keys]
        except ValueError:
            message = "encryption_key is not a key; make one with: oms-webhooks new-key"
            raise VaultError(message) from None
        self._first, self._fernet = fernets[0], MultiFernet(fernets)
        self.key_count = len(fernets)

    @staticmethod
    def new_key() -> str:
        """Make a key."""
        return Fernet.generate_key().decode()

    def derived(self, purpose: str) -> Vault:
        """A vault for something else, whose keys come of these (HKDF-SHA256): what one of the two has encrypted the other cannot open.

        Every process that has the same encryption_key gets the same keys, and there is no second secret to keep.
        """
        return Vault(",".join(_derived(key.get_secret_value(), purpose) for key in self._keys))

    def seal(self, secret: str) -> str:
        """Encrypt a secret."""
        return self._fernet.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Decrypt a secret.

        Raises:
            SealedOtherwiseError: it was encrypted with another key, or is not an encrypted secret at all.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except (InvalidToken, ValueError):  # the latter for a text that is not ASCII
            message = (
                "Its secrets were encrypted with another encryption_key; add that key to OMS_WEBHOOKS_ENCRYPTION_KEY in every role, "
                "comma-separated, behind the first."
            )
            raise SealedOtherwiseError(message) from None

    def is_current(self, sealed: str) -> bool:
        """Whether a secret that can be opened was encrypted with the first key. With one key there is no other."""
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
    # The key is random in all its bits, so there is nothing for a salt to do (RFC 5869, 3.1).
    derivation = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"oms-webhooks " + purpose.encode())
    return base64.urlsafe_b64encode(derivation.derive(base64.urlsafe_b64decode(key))).decode()
