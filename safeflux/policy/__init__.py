"""Policy files: read, checked, explained.

``load_policy`` turns a file into a ``Policy`` or raises ``PolicyError`` with every problem in it; ``schema`` is the same
rules as a JSON Schema, for editors. Reading goes file -> marked tree (``tree``) -> shape check against the schema
(``shape``, ``fields``) -> checks across fields (``rules``) -> dataclasses (``load``).
"""

from safeflux.policy.fields import schema
from safeflux.policy.load import load_policy, read_policy
from safeflux.policy.model import (
    Audit,
    Base,
    Category,
    Choice,
    Concept,
    Limit,
    Limits,
    Policy,
    Preset,
    ReportSettings,
    Signing,
)
from safeflux.policy.templates import template, templates

__all__ = [
    "Audit",
    "Base",
    "Category",
    "Choice",
    "Concept",
    "Limit",
    "Limits",
    "Policy",
    "Preset",
    "ReportSettings",
    "Signing",
    "load_policy",
    "read_policy",
    "schema",
    "template",
    "templates",
]
