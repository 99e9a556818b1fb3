"""Every error SafeFlux raises on purpose.

    SafeFluxError               the root; each says what came, what was wanted and what to do
    |-- PolicyError             a policy file is wrong; lists every problem with file:line:column
    |-- OptionError             a method, attack, metric or exporter was given an option it does not take
    |-- RegistryError           a name that no method, attack, metric, detector or exporter has
    |-- PlanError               the policy is sound, but this cannot be carried out (no such model, no key, n too small)
    |-- ModelError              a model directory cannot be read, or is not a FLUX
    |-- WorkspaceError          the output directory cannot be used (another run holds it, not writable, foreign files)
    |-- StageError              a stage could not do its work
    |-- ReportError             an erasure report is malformed, or says something its own findings do not
    `-- TrustError              a release was not verified and therefore not loaded

Exit codes of the command line: 1 when the model did not pass or a release is not to be trusted, 2 for wrong usage
(PolicyError, OptionError, RegistryError), 3 when the tool could not do its work.
"""

from __future__ import annotations


class SafeFluxError(Exception):
    """Root of all errors raised on purpose. ``exit_code`` is what the command line leaves with."""

    exit_code = 3


class OptionError(SafeFluxError):
    exit_code = 2


class RegistryError(SafeFluxError):
    exit_code = 2


class PlanError(SafeFluxError):
    pass


class ModelError(SafeFluxError):
    pass


class WorkspaceError(SafeFluxError):
    pass


class StageError(SafeFluxError):
    pass


class ReportError(SafeFluxError):
    exit_code = 1


class TrustError(SafeFluxError):
    exit_code = 1


class PolicyError(SafeFluxError):
    """One or more problems in a policy file; ``problems`` holds them in the file's order."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))
