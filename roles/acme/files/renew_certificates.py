# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep this gateway's certificates fresh: ask the ACME server, put the pair in place, check, reload, or put it back.

renew_certificates.py CONFIG   CONFIG is JSON, as the role's template acme.json.j2 writes it
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host import certificate_store as store
from cryptography import x509

LIVE = "/etc/letsencrypt/live"


def why(chain: str | None, domains: list[str], fraction: float) -> str | None:
    """Return why a certificate is not good enough, or None."""
    if not chain:
        return "there is none"
    leaf = x509.load_pem_x509_certificate(chain.encode())
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = []
    if set(names) != set(domains):
        return f"it names {', '.join(sorted(names)) or 'nothing'}"
    ends, begins = moment(leaf, "not_valid_after"), moment(leaf, "not_valid_before")
    left, life = ends - datetime.datetime.now(datetime.UTC), ends - begins
    if left <= life * fraction:
        return f"{max(left, datetime.timedelta(0)).total_seconds() / 86400:.1f} of {life.total_seconds() / 86400:.0f} days are left"
    return None


def moment(leaf: x509.Certificate, name: str) -> datetime.datetime:
    """Return a date with its zone, also from the library of Debian 12, whose dates have none."""
    return getattr(leaf, f"{name}_utc", None) or getattr(leaf, name).replace(tzinfo=datetime.UTC)


def fetch(settings: dict[str, Any], site: dict[str, Any]) -> None:
    """Have a certificate issued; ask a second time, since a server may be busy or refuse a nonce once too often for certbot."""
    command = ["certbot", "certonly", "--non-interactive", "--agree-tos", "--server", settings["server"], "--cert-name", site["name"]]
    command += ["--webroot", "--webroot-path", settings["webroot"], "--key-type", "ecdsa", "--elliptic-curve", "secp256r1"]
    command += ["--force-renewal", "--renew-with-new-domains", "--quiet"]
    command += ["--email", settings["email"]] if settings["email"] else ["--register-unsafely-without-email"]
    for domain in site["domains"]:
        command += ["--domain", domain]
    environment = dict(os.environ)
    if settings["server_ca"]:
        environment["REQUESTS_CA_BUNDLE"] = settings["server_ca"]
    try:
        subprocess.run(command, check=True, env=environment, timeout=200)
    except (OSError, subprocess.SubprocessError):
        time.sleep(10)
        subprocess.run(command, check=True, env=environment, timeout=200)


def take(settings: dict[str, Any], site: dict[str, Any]) -> tuple[str | None, bool]:
    """Bring one site up to date; return the folder of the pair before, and whether anything changed."""
    directory, fraction = settings["directory"], settings["renew_fraction"]
    now = store.look(directory, site["name"])
    reason = why(now["chain"], site["domains"], fraction)
    if now["source"] != "acme":
        reason = f"it comes from {now['source'] or 'nowhere'}"
    if reason is None:
        return None, False
    live = os.path.join(LIVE, site["name"])
    if why(store.read(os.path.join(live, store.CHAIN)), site["domains"], fraction) is not None or not same_server(settings, site):
        print(f"{site['name']}: asking {settings['server']} for a certificate, because {reason}")
        fetch(settings, site)
    chain, key = (store.read(os.path.join(live, name)) for name in (store.CHAIN, store.KEY))
    before = store.install(directory, site["name"], chain, key, "acme")
    print(f"{site['name']}: new certificate in place")
    return before, True


def same_server(settings: dict[str, Any], site: dict[str, Any]) -> bool:
    """Whether the certificate at hand came from the server that is asked today (and not from its staging twin)."""
    text = store.read(f"/etc/letsencrypt/renewal/{site['name']}.conf") or ""
    return any(line.replace(" ", "") == f"server={settings['server']}" for line in text.splitlines())


def load(settings: dict[str, Any], before: dict[str, str | None]) -> bool:
    """Let the gateway load what is new. When it refuses, put the pairs before back."""
    if subprocess.run(settings["check"], check=False).returncode:
        if all(before.values()):
            store.clear()
        for site, folder in before.items():
            if folder:
                store.point(settings["directory"], site, folder)
                print(f"{site}: the gateway refuses the new certificate; the previous one was restored", file=sys.stderr)
        return False
    if subprocess.run(["systemctl", "try-reload-or-restart", settings["service"]], check=False).returncode:
        return False
    store.clear()
    return True


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with open(arguments[1], encoding="utf-8") as stream:
        settings = json.load(stream)
    failed: list[str] = []
    before: dict[str, str | None] = {}
    for site in settings["sites"]:
        try:
            folder, changed = take(settings, site)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            failed.append(site["name"])
            print(f"{site['name']}: no new certificate: {error}. /var/log/letsencrypt/letsencrypt.log has the details.", file=sys.stderr)
            continue
        if changed:
            before[site["name"]] = folder
    if (before or store.pending()) and not load(settings, before):
        failed += list(before)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
