"""Content credentials (C2PA): a signed statement inside an audio file that a machine made it, with models and seeds.

Owns the statement, its signature by a certificate of the user's own, and its reading. The extra `credentials` brings
c2pa-python, which works offline. A signature says who made the statement, and that the file is as it was signed.
Unlike a record's digest, nobody can write it anew without the key.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab._version import __version__
from harmonia_lab.errors import ErrorCode, InvalidRequest, StorageError
from harmonia_lab.generation.verify import Finding, Verification
from harmonia_lab.protocol.models import SongMetadata

__all__ = ["SIGNED_FORMATS", "Signer", "check_credentials", "digital_source_type", "read_signer", "signed"]

SIGNED_FORMATS = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac"}
"""Formats that C2PA can be embedded in, and their media types. In FLAC it is an ID3 tag before the stream, which most
players skip, as libsndfile and FFmpeg do."""

_LABEL = "harmonia-lab.generation"
_SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_RULES = ("sketch",)
"""Audio engines that compose by rules and play recordings of instruments, without a trained model."""

_OFFLINE = {
    "version": 1,
    "verify": {"ocsp_fetch": False, "remote_manifest_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
_TRUST = ("signingCredential.untrusted",)


@dataclass(frozen=True)
class Signer:
    """certificates: PEM, the signer's own first, then its issuers. key: PEM, PKCS 8. algorithm: C2PA's name of it."""

    certificates: bytes
    key: bytes
    algorithm: str


def read_signer(certificates: Path, key: Path) -> Signer:
    """Return the signer of two PEM files. Raises InvalidRequest for files that don't fit, or without the extra."""
    _library()
    from cryptography import x509  # noqa: PLC0415 - c2pa-python brings it
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    texts = [_read(path) for path in (certificates, key)]
    try:
        chain = x509.load_pem_x509_certificates(texts[0])
    except ValueError as error:
        raise InvalidRequest(f"{certificates} has no certificates in PEM.", hint=_CHAIN) from error
    try:
        private = serialization.load_pem_private_key(texts[1], None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidRequest(f"{key} has no private key in PEM without a password: {error}.", hint=_CHAIN) from error
    if private.public_key() != chain[0].public_key():
        raise InvalidRequest(f"{key} is not the key of the first certificate in {certificates}.", hint=_CHAIN)
    plain = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Signer(texts[0], plain, _algorithm(private))


_CHAIN = "Give the signer's certificate followed by its issuers' in one PEM file, and its key (PKCS 8) in another."


def _algorithm(private: Any) -> str:
    """Return C2PA's name of the signature that the key makes (C2PA 2.1, 13.2). Raises InvalidRequest."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415

    if isinstance(private, ec.EllipticCurvePrivateKey):
        names = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if private.curve.name in names:
            return names[private.curve.name]
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    elif isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    raise InvalidRequest("Keys of this kind can't sign content credentials.", hint="Use P-256, Ed25519 or RSA.")


def digital_source_type(record: Mapping[str, Any]) -> str:
    """Return IPTC's name for how the sound was made (cv.iptc.org/newscodes/digitalsourcetype).

    "trainedAlgorithmicMedia" ("created algorithmically using a model derived from sampled content") for every audio
    engine but the sketch, whose sound is "algorithmicMedia" ("created purely by an algorithm not based on any sampled
    training data"), whoever wrote the words.
    """
    return "algorithmicMedia" if record["engines"]["audio"]["engine"] in _RULES else "trainedAlgorithmicMedia"


def signed(data: bytes, audio_format: str, signer: Signer, record: Mapping[str, Any], metadata: SongMetadata) -> bytes:
    """Return the file with content credentials.

    Raises InvalidRequest for a format or a certificate that can't be used.
    """
    c2pa = _library()
    if audio_format not in SIGNED_FORMATS:
        raise InvalidRequest(
            f"C2PA has no content credentials in .{audio_format} files.",
            hint=f"Choose --format {', '.join(SIGNED_FORMATS)}.",
        )
    mime = SIGNED_FORMATS[audio_format]
    out = io.BytesIO()
    try:
        info = c2pa.C2paSignerInfo(signer.algorithm, signer.certificates, signer.key, None)
        with (
            c2pa.Context(c2pa.Settings.from_dict(_OFFLINE)) as context,
            c2pa.Signer.from_info(info) as by,
            c2pa.Builder(_manifest(record, metadata, mime), context) as builder,
        ):
            builder.sign(by, mime, io.BytesIO(data), out)
    except c2pa.C2paError as error:
        raise InvalidRequest(
            f"The song can't be signed: {error}.",
            hint="C2PA wants a certificate for signing (key usage digitalSignature, an extended key usage such as "
            "emailProtection) that another certificate issued, and that is valid today.",
        ) from error
    return out.getvalue()


def _manifest(record: Mapping[str, Any], metadata: SongMetadata, mime: str) -> dict[str, Any]:
    agent = {"name": "Harmonia Lab", "version": record.get("versions", {}).get("harmonia-lab", __version__)}
    created = {
        "action": "c2pa.created",
        "softwareAgent": agent,
        "digitalSourceType": _SOURCES + digital_source_type(record),
    }
    named = ("engine", "model", "digest", "sha256", "weights", "licence")
    generation = {
        "generationId": record.get("generationId"),
        "seeds": record.get("seeds"),
        "engines": {
            stage: {name: engine[name] for name in named if engine.get(name) is not None}
            for stage, engine in record["engines"].items()
        },
        "versions": record.get("versions", {}),
        "songSha256": record["files"]["song.flac"]["sha256"],
        "recordSha256": record.get("recordSha256"),
    }
    return {
        "claim_generator_info": [{"name": "Harmonia Lab", "version": __version__}],
        "title": metadata.title,
        "format": mime,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": _LABEL, "data": {name: value for name, value in generation.items() if value is not None}},
        ],
    }


def check_credentials(path: Path, trust: Path | None = None) -> Verification:
    """Check the content credentials of an audio file. trust: a PEM file of certificates whose signatures are trusted.

    Raises InvalidRequest without the extra, or for a file of `trust` that can't be read; StorageError.
    """
    c2pa = _library()
    settings = dict(_OFFLINE) | ({"trust": {"user_anchors": _read(trust).decode("utf-8", "replace")}} if trust else {})
    report = Verification(path, ["."])
    mime = SIGNED_FORMATS.get(path.suffix.lower().removeprefix("."))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.", code=ErrorCode.NOT_FOUND) from error
    if mime is None:
        report.findings.append(Finding(".", f"is no file with content credentials ({', '.join(SIGNED_FORMATS)})"))
        return report
    try:
        with (
            c2pa.Context(c2pa.Settings.from_dict(settings)) as context,
            c2pa.Reader(mime, io.BytesIO(data), context=context) as reader,
        ):
            store = json.loads(reader.json())
    except c2pa.C2paError as error:
        missing = isinstance(error, c2pa.C2paError.ManifestNotFound)
        report.findings.append(Finding(".", "has no content credentials" if missing else f"cannot be checked: {error}"))
        return report
    failures = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    told = [
        f"{failure['code']}: {failure.get('explanation', '')}" for failure in failures if failure["code"] not in _TRUST
    ]
    report.findings += [Finding(".", what) for what in told]
    try:
        report.notes += _statement(store["manifests"][store["active_manifest"]])
    except (KeyError, TypeError, AttributeError):  # another program's, with other types
        report.notes.append("What the credentials say can't be read here.")
    if len(told) < len(failures):
        report.notes.append("Nobody here vouches for the signer: --trust FILE names certificates that you trust.")
    return report


def _statement(manifest: Mapping[str, Any]) -> list[str]:
    """Return what the credentials say, in sentences."""
    signature = manifest.get("signature_info", {})
    names = [signature[name] for name in ("common_name", "issuer") if signature.get(name)]
    said = [f"Signed by {', '.join(names) or 'an unnamed signer'}: {manifest.get('title', 'no title')}."]
    for assertion in manifest.get("assertions", []):
        data = assertion.get("data", {})
        said += [
            f"{action['action']} as {action['digitalSourceType'].rpartition('/')[2]}."
            for action in data.get("actions", [])
            if "digitalSourceType" in action
        ]
        if assertion["label"] == _LABEL:
            engines = "; ".join(
                f"{stage}: {' '.join(str(engine[name]) for name in ('engine', 'model') if engine.get(name))}"
                for stage, engine in data.get("engines", {}).items()
            )
            seed = data.get("seeds", {}).get("request")
            said.append(f"Generation {data.get('generationId')}, seed {seed}; {engines}.")
    return said


def _library() -> Any:
    try:
        import c2pa  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise InvalidRequest(
            "Content credentials need c2pa-python.", hint="pip install 'harmonia-lab[credentials]'"
        ) from error
    return c2pa


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", hint="Name a PEM file.") from error
