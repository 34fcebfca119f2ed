"""Signatures of version v1a, verified with common tools: cryptography, Node and Go."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pipeline.core.asymmetric_signing import SigningKeyPair, jwk, key_id, new_key_pair
from pipeline.core.signing import SigningKey, new_secret, sign

MESSAGE = b'evt_1.1772463841.{"id":"evt_1","total":1.10}'
NODE = """
const [x, signature, message] = process.argv.slice(-3).map((one) => Buffer.from(one, 'base64'));
const key = crypto.createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: x.toString('base64url') }, format: 'jwk' });
process.exit(crypto.verify(null, message, key, signature) ? 0 : 3);
"""
GO = """package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"os"
)

func main() {
	var given [3][]byte
	for i := range given {
		given[i], _ = base64.StdEncoding.DecodeString(os.Args[i+1])
	}
	if !ed25519.Verify(ed25519.PublicKey(given[0]), given[2], given[1]) {
		os.Exit(3)
	}
}
"""


def signed() -> tuple[SigningKeyPair, bytes, bytes]:
    """Return a key pair, its raw public key, and its signature of the message."""
    pair = SigningKeyPair(new_key_pair())
    version, _, signature = pair.signature(MESSAGE).partition(",")
    assert version == "v1a"
    return pair, base64.b64decode(pair.public_key.removeprefix("whpk_")), base64.b64decode(signature)


def test_python_verifies_the_signature() -> None:
    _, public, signature = signed()
    key = Ed25519PublicKey.from_public_bytes(public)
    key.verify(signature, MESSAGE)
    with pytest.raises(InvalidSignature):
        key.verify(signature, MESSAGE + b" ")


def _exit_codes(command: list[str]) -> list[int]:
    """Run a verifier on the right message and on another one, and return both exit codes."""
    _, public, signature = signed()
    codes = []
    for message in (MESSAGE, MESSAGE + b" "):
        arguments = [base64.b64encode(one).decode() for one in (public, signature, message)]
        codes.append(subprocess.run([*command, *arguments], check=False, timeout=250).returncode)
    return codes


@pytest.mark.examples
@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_node_verifies_the_signature() -> None:
    assert _exit_codes(["node", "-e", NODE, "--"]) == [0, 3]


@pytest.mark.examples
@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
def test_go_verifies_the_signature(tmp_path: Path) -> None:
    """It takes a second or more: Go compiles a program."""
    (tmp_path / "main.go").write_text(GO)
    built = tmp_path / "verify"
    subprocess.run(["go", "build", "-o", str(built), str(tmp_path / "main.go")], check=True, timeout=250, cwd=tmp_path)
    assert _exit_codes([str(built)]) == [0, 3]


def test_both_versions_are_in_one_header() -> None:
    pair = SigningKeyPair(new_key_pair())
    header = sign([SigningKey(new_secret()), pair], "evt_1", 1, b"{}")
    assert [one.partition(",")[0] for one in header.split(" ")] == ["v1", "v1a"]


def test_a_key_as_jwk() -> None:
    # RFC 8037, appendix A.1 to A.3.
    secret = (
        "whsk_" + base64.b64encode(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")).decode()
    )
    public = SigningKeyPair(secret).public_key
    assert json.loads(json.dumps(jwk(public)))["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key_id(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert jwk(public)["kid"] == key_id(public)


@pytest.mark.parametrize(
    "secret", ["whsk_", "whsk_hunter2", "whsec_" + "A" * 44, "whsk_" + base64.b64encode(b"x" * 31).decode(), "whsk_é"]
)
def test_an_invalid_private_key_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="A private key is whsk_") as caught:
        SigningKeyPair(secret)
    assert "hunter2" not in str(caught.value)


def test_the_private_key_is_never_shown() -> None:
    secret = new_key_pair()
    assert secret.removeprefix("whsk_") not in repr(SigningKeyPair(secret))
