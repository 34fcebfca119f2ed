"""Secrets at rest: tokens and signing secrets are encrypted in the compacted topic (Fernet: AES-128-CBC and HMAC-SHA256)."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class VaultError(Exception):
    """A secret could not be opened, or a key is not a key. The message holds neither."""


class Vault:
    """Seals with the first key, opens with any of them (so that the key can be rotated): comma-separated Fernet keys."""

    def __init__(self, keys: str) -> None:
        try:
            fernets = [Fernet(key.strip()) for key in keys.split(",")]
        except ValueError:
            message = "encryption_key is not a key; make one with: oms-webhooks new-key"
            raise VaultError(message) from None
        self._first, self._fernet = fernets[0], MultiFernet(fernets)
        self.key_count = len(fernets)

    @staticmethod
    def new_key() -> str:
        """Make a key."""
        return Fernet.generate_key().decode()

    def seal(self, secret: str) -> str:
        """Encrypt a secret."""
        return self._fernet.encrypt(secret.encode()).decode()

    def open(self, sealed: str) -> str:
        """Decrypt a secret.

        Raises:
            VaultError: it was sealed with another key, or is not a sealed secret at all.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except (InvalidToken, ValueError):  # the latter for a text that is not ASCII
            message = "An endpoint's secret was sealed with another encryption_key; set the one that the API uses."
            raise VaultError(message) from None

    def is_current(self, sealed: str) -> bool:
        """Whether a secret that can be opened was sealed with the first key. With one key there is no other."""
        if self.key_count == 1:
            return True
        try:
            self._first.decrypt(sealed)
        except (InvalidToken, ValueError):
            return False
        return True

    def renew(self, sealed: str) -> str:
        """The same secret, sealed with the first key.

        Raises:
            VaultError: as :meth:`open`.
        """
        return sealed if self.is_current(sealed) else self.seal(self.open(sealed))
