"""Where in its file a policy says something, for messages that come after it was read."""

from __future__ import annotations

from safeflux.policy.model import Policy
from safeflux.policy.rules import at
from safeflux.policy.tree import parse


def place(policy: Policy, *fields: str) -> str:
    """ "file:line:column: " of a field, or of the nearest thing around it that the file has; empty for a policy without text."""
    root, _ = parse(policy.text) if policy.text else (None, [])
    while fields and at(root, *fields) is None:
        fields = fields[:-1]
    node = at(root, *fields)
    return "" if node is None or not fields else f"{policy.source or 'policy'}:{node.line}:{node.column}: "
