"""A certificate authority of a laboratory, and a certificate for signing that it issued; new for each run."""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

USAGES = [
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
]


def usage(*names):
    return x509.KeyUsage(**{name: name in names for name in USAGES})


def name(common):
    parts = [(NameOID.ORGANIZATION_NAME, "A Lab"), (NameOID.COMMON_NAME, common)]
    return x509.Name([x509.NameAttribute(*part) for part in parts])


def builder(subject, key, *, days):
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name("A Lab Root"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=10))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def write_chain(folder, *, days=10, kind="ec", signs=True):
    """Write chain.pem, key.pem and root.pem. days: how long the signer's certificate is valid."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    root = (
        builder("A Lab Root", root_key, days=30)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    own = (
        builder("A Lab Songs", key, days=days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage("digital_signature" if signs else "key_encipherment"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(issuer, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem = [each.public_bytes(serialization.Encoding.PEM) for each in (own, root)]
    (folder / "chain.pem").write_bytes(b"".join(pem))
    (folder / "root.pem").write_bytes(pem[1])
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(plain)
    return folder / "chain.pem", folder / "key.pem"
