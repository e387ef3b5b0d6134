"""systemd's encrypted credentials on a host, by systemd-creds; the secret goes through pipes only."""

from __future__ import annotations

import os
import subprocess
import tempfile


class CredentialError(Exception):
    """systemd-creds refused, with what it said."""


def read_credential(path: str, name: str) -> bytes | None:
    """The secret in an encrypted credential, None where there is none that this machine can decrypt."""
    if not os.path.exists(path):
        return None
    done = subprocess.run(["systemd-creds", f"--name={name}", "decrypt", path, "-"], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def write_credential(path: str, name: str, secret: bytes) -> None:
    """Encrypt a secret for this machine alone (its TPM too, where it has one) and put it in place in one step."""
    done = subprocess.run(
        ["systemd-creds", f"--name={name}", "encrypt", "-", "-"], input=secret, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise CredentialError(f"systemd-creds can't encrypt {name}: {done.stderr.decode(errors='replace').strip()}")
    write_root_only(path, done.stdout)


def write_root_only(path: str, content: bytes) -> None:
    """Replace a file that only root may read, in one step that survives a crash."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
