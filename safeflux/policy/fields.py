"""The shape of a policy as a JSON Schema (draft 2020-12): the one description that the checker, too, works from.

``title`` says what a field means, ``description`` what is allowed in it, in the words of an error message. Names and
options come from the registry, so the schema of an installation with plug-ins knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from safeflux.errors import OptionError
from safeflux.options import options
from safeflux.policy.model import Category, Preset
from safeflux.prompts import LANGUAGES
from safeflux.registry import Kind, names

Schema = Mapping[str, Any]

VERSION = 1
HUB_ID = r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"


def schema() -> dict[str, Any]:
    """JSON Schema of a policy file. Rules across fields (a concept that is also retained, say) are left to the checker."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "SafeFlux policy",
        **_object(
            {
                "safeflux": {
                    "title": "Version of this format",
                    "const": VERSION,
                    "type": "integer",
                    "description": f"{VERSION}, the version of the format that this SafeFlux reads",
                },
                "name": {
                    "title": "Name of the release",
                    "type": "string",
                    "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$",
                    "description": 'up to 64 lower-case letters, digits, ".", "_" and "-", beginning with a letter or digit',
                },
                "version": {
                    "title": "Version of the release",
                    "type": "string",
                    "pattern": "^[0-9][0-9A-Za-z.+_-]{0,63}$",
                    "description": 'text such as "1.0" or "2026.11", beginning with a digit',
                },
                "seed": {"title": "What all randomness starts from", "type": "integer", "minimum": 0, "maximum": 2**32 - 1, "default": 0},
                "base": _base(),
                "concepts": {"title": "What must go", "type": "array", "minItems": 1, "items": _concept()},
                "retain": {"title": "General nouns that must stay", **_words("nouns", least=1)},
                "method": {"title": "How to erase", **_choice("method")},
                "limits": _limits(),
                "audit": _audit(),
                "bake": _bake(),
                "exports": {"title": "What to write", "type": "array", "minItems": 1, "items": _choice("exporter")},
                "report": _report(),
                "signing": _signing(),
            },
            required=("safeflux", "name", "version", "base", "concepts", "method", "limits"),
        ),
    }


def _object(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _text(title: str, longest: int = 200, least: int = 1) -> dict[str, Any]:
    """One line without blanks at its ends."""
    rest = r"\S([^\r\n]*\S)?"
    return {
        "title": title,
        "type": "string",
        "maxLength": longest,
        "pattern": f"^{rest}$" if least else f"^({rest})?$",
        "description": f"text on one line, {'' if least else 'or empty, '}without blanks around it, up to {longest} characters",
    }


def _words(what: str, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "minItems": least, "uniqueItems": True, "items": _text(f"one of the {what}", 80)}


def _base() -> dict[str, Any]:
    model = {
        "title": "The model to start from",
        "type": "string",
        "pattern": rf"^(builtin:flux-mini|(\.{{1,2}}|~)?/[^\r\n]+|{HUB_ID})$",
        "description": "builtin:flux-mini, a directory beginning with ./, ../, ~/ or /, or a hub id like black-forest-labs/FLUX.1-dev",
    }
    revision = {
        "title": "The commit of a hub id",
        "type": "string",
        "pattern": "^[0-9a-f]{40}$",
        "description": "the 40 hexadecimal digits of a commit; a branch or tag can move",
    }
    extends = _text("An earlier release of this model to add concepts to; a relative path starts at the policy file", 1000)
    merges = {
        "title": "Releases of this model, made apart, to make one of",
        "type": "array",
        "minItems": 2,
        "uniqueItems": True,
        "items": _text("one of the releases; a relative path starts at the policy file", 1000),
    }
    hub = {"properties": {"model": {"type": "string", "pattern": f"^{HUB_ID}$"}}, "required": ["model"]}
    return {
        **_object({"model": model, "revision": revision, "extends": extends, "merges": merges}, required=("model",)),
        "if": hub,
        "then": {"required": ["revision"]},
        "else": {"properties": {"revision": False}},
    }


def _concept() -> dict[str, Any]:
    return _object(
        {
            "name": _text("What it is called", 80),
            "category": {"title": "What kind of concept", "type": "string", "enum": list(get_args(Category))},
            "targets": {"title": "The words that name it; default: its name", **_words("targets", least=1)},
            "anchor": _text("What to draw instead; default: the empty prompt", least=0),
            "retain": {"title": "Near neighbours that must stay", **_words("neighbours")},
            "detector": {"title": "What recognises it", **_choice("detector")},
            "label": _text("What the detector calls it; default: its name", 80),
            "translations": {
                "title": "What it is called in other languages, with articles; reworded prompts use it",
                **_object({language: _words("names", least=1) for language in LANGUAGES}),
            },
            "labelled": _text("Directory of pictures in shown/ and others/ to count the detector's mistakes on", 1000),
        },
        required=("name", "category"),
    )


def _limits() -> dict[str, Any]:
    def limit(title: str, key: str) -> dict[str, Any]:
        rate = {"title": "The rate", "type": "number", "exclusiveMinimum": 0, "maximum": 1}
        sure = {"title": "One-sided confidence", "type": "number", "exclusiveMinimum": 0.5, "exclusiveMaximum": 1, "default": 0.95}
        return {"title": title, "anyOf": [rate, _object({key: rate, "confidence": sure}, required=(key,))]}

    return _object(
        {
            "detection": limit("Share of direct prompts that may still draw a concept, at most", "at_most"),
            "attack_success": limit("Share of attacks that may succeed, at most", "at_most"),
            "retained": limit("What must stay, as a share of what the base model draws, at least", "at_least"),
        },
        required=("detection", "attack_success", "retained"),
    )


_ATTACKS = "How to look; default: none, paraphrase, ring-a-bell, embedding-pgd"


def _audit() -> dict[str, Any]:
    return _object(
        {
            "preset": {"title": "How hard to look", "type": "string", "enum": list(get_args(Preset)), "default": "standard"},
            "attacks": {
                "title": _ATTACKS,
                "type": "array",
                "minItems": 1,
                "items": _choice("attack"),
            },
            "images": {"title": "Pictures per concept and attack", "type": "integer", "minimum": 1, "maximum": 100_000},
            "stop_early": {"title": "Stop drawing once a limit is decided", "type": "boolean", "default": False},
            "photographs": _text("Directory of photographs of what must stay, to tell how much farther from them pictures are", 1000),
        }
    )


def _bake() -> dict[str, Any]:
    return _object(
        {
            "layout": {
                "title": "Erased neurons as zeros, or cut out; beside zeros, the export `removed` has them cut out, too",
                "type": "string",
                "enum": ["dense", "removed"],
                "default": "dense",
            },
            "decoys": {"title": "Fill the slots of erased neurons with others that do nothing", "type": "boolean", "default": False},
            "multiple": {"title": "Round widths up to a multiple of this", "type": "integer", "minimum": 1, "maximum": 4096, "default": 1},
            "kept": {
                "title": "Say which neurons were kept, so that adapters can be cut to fit",
                "type": "string",
                "enum": ["if-public", "never", "always"],
                "default": "if-public",
            },
        }
    )


def _report() -> dict[str, Any]:
    return _object(
        {
            "license": _text("Licence of the release, an SPDX identifier where there is one", 80),
            "intended_use": _text("What it is for", 2000),
            "contact": _text("Whom to tell about problems"),
            "pairs": {"title": "Before and after pictures per concept", "type": "integer", "minimum": 0, "maximum": 32, "default": 4},
        }
    )


def _signing() -> dict[str, Any]:
    shape = _object(
        {
            "key": _text("Private key file, pkcs11:... (RFC 7512), exec:... or sigstore:; a relative path starts at the policy file", 1000),
            "demo": {"title": "Make a throw-away key, for trying out", "type": "boolean", "default": False},
            "publisher": _text("Who signs"),
        }
    )
    return {**shape, "not": {"properties": {"demo": {"const": True}}, "required": ["key", "demo"]}}


def _choice(kind: Kind) -> dict[str, Any]:
    """A name, or {name: {option: value}}."""
    every = names(kind)
    with_options = {name: _options(kind, name) for name in every}
    many = {**_object(with_options), "minProperties": 1, "maxProperties": 1}
    return {"anyOf": [{"type": "string", "enum": list(every)}, many]}


def _options(kind: Kind, name: str) -> dict[str, Any]:
    """Options of one function. One that cannot be read (a broken plug-in) must not spoil every policy: it is refused on use."""
    try:
        found = options(kind, name)
    except OptionError:
        return {"type": "object", "title": "options unknown"}
    defaults = {key: list(one.default) if isinstance(one.default, tuple) else one.default for key, one in found.items()}
    return _object({key: {**one.schema, "default": defaults[key]} for key, one in found.items()})
