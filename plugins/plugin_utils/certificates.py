# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The internal certificate authority: made, read and used on the controller only."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:
    MISSING: ImportError | None = error
    x509 = serialization = None
else:
    MISSING = None

# A host whose clock lags behind the controller's still accepts a new certificate.
CLOCK_TOLERANCE = datetime.timedelta(hours=1)


class CertificateError(Exception):
    """What is wrong with the authority or the request, and what to do about it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def require_library() -> None:
    """Say in plain words that the controller lacks a package."""
    if MISSING is not None:
        raise CertificateError(
            "library_missing",
            f"The Python that runs Ansible on the controller has no package cryptography ({MISSING}). "
            "Install it there: pip install cryptography.",
        )


@dataclass
class Authority:
    """The signing certificate with its key, and all certificates that hosts shall trust."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    trust: str


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def public_bytes(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def create_authority(name: str, lifetime_days: int, now: datetime.datetime) -> tuple[str, str]:
    """Make a new authority; return its key and its certificate as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + datetime.timedelta(days=lifetime_days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key_pem(key), pem(certificate)


def read_authority(key_text: str, trust: str, where: str) -> Authority:
    """Read an authority; the trust file may hold several certificates, the one that fits the key signs."""
    try:
        key = serialization.load_pem_private_key(key_text.encode(), password=None)
        certificates = x509.load_pem_x509_certificates(trust.encode())
    except ValueError as error:
        raise CertificateError(
            "authority_unreadable", f"{where}: the authority cannot be read ({error}). Restore ca.key and ca.crt from a backup."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(
            "authority_unreadable", f"{where}/ca.key is not an elliptic curve key. Provide an ECDSA key (P-256 or P-384)."
        )
    wanted = public_bytes(key.public_key())
    for certificate in certificates:
        if public_bytes(certificate.public_key()) == wanted:
            return Authority(certificate, key, trust)
    raise CertificateError(
        "authority_mismatch",
        f"{where}: none of the {len(certificates)} certificates in ca.crt belongs to ca.key. Restore the pair from a backup.",
    )


def alternative_names(certificate: x509.Certificate) -> list[str]:
    """Return names and addresses of a certificate, sorted."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(address) for address in extension.get_values_for_type(x509.IPAddress)]
    return sorted([*extension.get_values_for_type(x509.DNSName), *addresses])


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def defects(text: str | None, names: Sequence[str], authority: Authority | None, now: datetime.datetime) -> list[str]:
    """Return why a certificate has to be replaced; an empty list keeps it."""
    if not text:
        return ["there is none"]
    try:
        certificate = x509.load_pem_x509_certificate(text.encode())
    except ValueError:
        return ["it cannot be read"]
    found = []
    if authority is None:
        found.append("its authority does not exist yet")
    else:
        try:
            certificate.verify_directly_issued_by(authority.certificate)
        except (ValueError, TypeError, InvalidSignature):
            found.append("another authority issued it")
    seen, wanted = set(alternative_names(certificate)), set(names)
    if wanted - seen:
        found.append(f"it lacks {', '.join(sorted(wanted - seen))}")
    if seen - wanted:
        found.append(f"it still names {', '.join(sorted(seen - wanted))}")
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    left = certificate.not_valid_after_utc - now
    if left < datetime.timedelta(0):
        found.append(f"it expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    elif left * 3 <= life:
        found.append(f"less than a third of its lifetime is left (it expires on {certificate.not_valid_after_utc:%Y-%m-%d})")
    return found


def issue(authority: Authority, names: Sequence[str], lifetime_days: int, now: datetime.datetime) -> tuple[str, str]:
    """Issue a certificate for server and client use; return key and certificate as PEM."""
    ends = min(now + datetime.timedelta(days=lifetime_days), authority.certificate.not_valid_after_utc)
    if ends <= now:
        raise CertificateError(
            "authority_expired",
            f"The internal authority expired on {authority.certificate.not_valid_after_utc:%Y-%m-%d}. Replace ca.key and ca.crt; "
            "keep the old certificate in ca.crt behind the new one until every host has a new certificate.",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return key_pem(key), pem(certificate)
