"""How two descriptions of the protocol differ, and which version number that asks for.

`python -m tests.protocol.wire` writes `wire.json`, the description that the next change is compared with; it refuses
where the wire has changed and `PROTOCOL_VERSION` has not moved far enough.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from harmonia_lab.protocol.schema import describe

SNAPSHOT = Path(__file__).with_name("wire.json")
REF = "#/components/schemas/"


@dataclass(frozen=True)
class Change:
    """additive: a client that was written before can overlook it."""

    where: str
    what: str
    additive: bool

    def __str__(self):
        return f"{'additive' if self.additive else 'BREAKING'}: {self.where}: {self.what}"


def without_prose(value):
    if isinstance(value, list):
        return [without_prose(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: without_prose(inner)
        for key, inner in value.items()
        if not (key in ("description", "meaning", "recovery") and isinstance(inner, str))
    }


def current():
    return without_prose(describe())


def changes(old, new):
    """Every difference, each with its verdict. Payloads are compared as far as they are reachable from a message."""
    return [
        *_entries("event", old, new, sent=True),
        *_entries("command", old, new, sent=False),
        *_errors(old["errors"], new["errors"]),
    ]


def version_needed(old_version, found):
    """The least version that may carry these changes."""
    major, minor = map(int, old_version.split("."))
    if not found:
        return old_version
    return f"{major}.{minor + 1}" if all(change.additive for change in found) else f"{major + 1}.0"


def is_enough(version, needed):
    return tuple(map(int, version.split("."))) >= tuple(map(int, needed.split(".")))


def verdict(old, new):
    """None where all is well, else what is wrong and how to mend it."""
    found = changes(old, new)
    needed = version_needed(old["version"], found)
    listed = "\n".join(map(str, found))
    if not is_enough(new["version"], needed):
        return f"The wire has changed:\n{listed}\nPROTOCOL_VERSION must be at least {needed}; it is {new['version']}."
    if old != new:
        return f"{listed}\nThe version is right. Now run: python -m tests.protocol.wire"
    return None


def _entries(kind, old, new, *, sent):
    before, after = old[f"{kind}s"], new[f"{kind}s"]
    for name in sorted(before.keys() | after.keys()):
        where = f"{kind} {name}"
        if name not in after:
            yield Change(where, "removed", additive=False)
        elif name not in before:
            yield Change(where, "added", additive=True)
        else:
            yield from _entry(where, before[name], after[name], old["schemas"], new["schemas"], sent=sent)


def _entry(where, before, after, old, new, *, sent):
    for key in before.keys() | after.keys():
        if key in ("payload", "ack"):
            continue
        if before.get(key) != after.get(key):
            # That a bare string will do too is the one such thing that only adds.
            yield Change(where, f"{key} {before.get(key)} → {after.get(key)}", additive=key == "bare" and after[key])
    for key, outgoing in (("payload", sent), ("ack", True)):
        if (before.get(key) is None) != (after.get(key) is None):
            yield Change(where, f"{key} {before.get(key)} → {after.get(key)}", additive=False)
        elif before.get(key) is not None:
            yield from _schema(where, _ref(before[key]), _ref(after[key]), old, new, sent=outgoing, seen=set())


def _ref(name):
    return {"$ref": REF + name}


def _schema(where, before, after, old, new, *, sent, seen):
    """sent: the server says it, so that a wider range of values is what breaks a client; else it is a narrower one."""
    if "$ref" in before and "$ref" in after:
        pair = (before["$ref"], after["$ref"])
        if pair in seen:
            return
        seen = seen | {pair}
        before, after = old[pair[0].removeprefix(REF)], new[pair[1].removeprefix(REF)]
    if before == after and not _refers(before):
        return
    if before.get("type") == "object" == after.get("type"):
        yield from _fields(where, before, after, old, new, sent=sent, seen=seen)
        return
    if before.get("type") == "array" == after.get("type"):
        yield from _schema(f"{where}[]", before["items"], after["items"], old, new, sent=sent, seen=seen)
        before, after = before | {"items": None}, after | {"items": None}
    if "enum" in before and "enum" in after:
        yield from _values(where, set(before["enum"]), set(after["enum"]), sent=sent)
        return
    if len(before.get("anyOf", ())) == len(after.get("anyOf", ())) > 0:
        for one, other in zip(before["anyOf"], after["anyOf"], strict=True):
            yield from _schema(where, one, other, old, new, sent=sent, seen=seen)
        return
    if before != after and not (_refers(before) and _refers(after)):
        yield Change(where, f"{before} → {after}", additive=_only_bounds_widened(before, after) and not sent)


def _values(where, before, after, *, sent):
    gone, come = sorted(before - after), sorted(after - before)
    if gone or come:
        yield Change(where, f"values gone {gone}, come {come}", additive=not (come if sent else gone))


def _refers(schema):
    return REF in json.dumps(schema)


def _only_bounds_widened(before, after):
    low, high = ("minimum", "exclusiveMinimum", "minLength", "minItems"), ("maximum", "maxLength", "maxItems")
    rest = [{k: v for k, v in schema.items() if k not in low + high} for schema in (before, after)]
    return (
        rest[0] == rest[1]
        and all(k not in after or (k in before and after[k] <= before[k]) for k in low)
        and all(k not in after or (k in before and after[k] >= before[k]) for k in high)
    )


def _fields(where, before, after, old, new, *, sent, seen):
    had, has = before.get("properties", {}), after.get("properties", {})
    needed, needs = set(before.get("required", ())), set(after.get("required", ()))
    for field in sorted(had.keys() | has.keys()):
        place = f"{where}.{field}"
        if field not in has:
            # Fields that a server does not know are ignored, so dropping one that clients sent breaks only what it did.
            yield Change(place, "removed", additive=False)
        elif field not in had:
            yield Change(place, "added", additive=sent or field not in needs)
        else:
            if (field in needed) != (field in needs):
                yield Change(
                    place, "now required" if field in needs else "now optional", additive=(field in needs) == sent
                )
            yield from _schema(place, had[field], has[field], old, new, sent=sent, seen=seen)


def _errors(before, after):
    for code in sorted(before.keys() | after.keys()):
        if code not in after:
            yield Change(f"error {code}", "removed", additive=False)
        elif code not in before:
            yield Change(f"error {code}", "added", additive=True)
        elif before[code] != after[code]:
            yield Change(f"error {code}", f"{before[code]} → {after[code]}", additive=False)


def main():
    new = current()
    if SNAPSHOT.exists():
        old = json.loads(SNAPSHOT.read_text())
        needed = version_needed(old["version"], changes(old, new))
        if not is_enough(new["version"], needed):
            sys.exit(verdict(old, new))
    SNAPSHOT.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
