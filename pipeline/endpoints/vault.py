"""Secrets at rest: tokens and signing secrets are encrypted in the compacted topic (Fernet: AES-128-CBC and HMAC-SHA256)."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class VaultError(Exception):
    """A secret could not be opened, or a key is not a key. The message holds neither."""


class Vault:
    """Seals with the first key, opens with any of them (so that the key can be rotated): comma-separated Fernet keys."""

    def __init__(self, keys: str) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key.strip()) for key in keys.split(",")])
        except ValueError:
            message = "encryption_key is not a key; make one with: oms-webhooks new-key"
            raise VaultError(message) from None

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
