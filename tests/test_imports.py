"""The import diet: what must work, and start at once, where torch is not installed; and the layers of the house."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from pathlib import Path

from safeflux_signing import keys
from safeflux_signing.sign import sign

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "diffusers", "transformers", "numpy", "scipy", "PIL", "safetensors", "huggingface_hub")
LIGHT = (
    "safeflux.errors", "safeflux.policy", "safeflux.plan", "safeflux.prompts", "safeflux.types", "safeflux.registry", "safeflux.options",
    "safeflux.statistics", "safeflux.report", "safeflux.render", "safeflux.workspace", "safeflux_cli.verify", "safeflux_cli.keys",
    "safeflux_cli.keys_trust", "safeflux_cli.inspect_cmd", "safeflux_signing.sign", "safeflux_signing.verify", "safeflux_signing.trustfile",
    "safeflux_signing.pkcs11", "safeflux_signing.requirements", "safeflux_signing.vsa", "safeflux_signing.copies",
    "safeflux_signing.unverified", "safeflux_signing.commitments", "safeflux.commitment", "safeflux.verify", "safeflux_cli.claim",
    "safeflux.published", "safeflux.instruments", "safeflux_signing.keynames", "safeflux_signing.program",
    "safeflux.families", "safeflux_cli.list_cmd", "safeflux.load",
)  # fmt: skip
SLOW = (  # of the standard library
    "asyncio", "bz2", "email", "http", "lzma", "multiprocessing", "shlex", "shutil", "ssl", "subprocess", "tempfile", "tomllib", "unittest",
)  # fmt: skip
COMMANDS = (
    ("--help",), ("--version",), ("policy", "--help"), ("policy", "check", "policies/demo.yaml"),
    ("policy", "schema"), ("policy", "new"), ("plan", "policies/nudity.yaml"), ("verify", "--help"), ("inspect", "--help"),
    ("keys", "--help"), ("list", "models"),
)  # fmt: skip
WATCH = f"""
import contextlib, io, json, sys
from safeflux_cli.main import run
found = {{}}
def seen(step):
    found[step] = sorted({{name.partition('.')[0] for name in sys.modules}} & {{*{HEAVY!r}, *{SLOW!r}, 'ruamel', 'cryptography', 'jinja2'}})
def command(*arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(arguments) == 0, arguments
    seen(' '.join(arguments))
"""


def steps(code: str) -> dict[str, list[str]]:
    """Run ``code`` in a new interpreter; what was imported after each of its steps, of the packages that are watched."""
    script = WATCH + code + "\nprint(json.dumps(found))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_watch_sees_what_is_imported() -> None:
    assert steps("import numpy; seen('numpy')") == {"numpy": ["numpy"]}


def test_commands_and_modules_that_need_no_torch() -> None:
    code = f"for one in {COMMANDS!r}: command(*one)\n"
    code += f"import importlib\nfor one in {LIGHT!r}: importlib.import_module(one); seen(one)"
    found = steps(code)
    assert set(found) == {*map(" ".join, COMMANDS), *LIGHT}
    assert {step: heavy for step, names in found.items() if (heavy := set(names) & set(HEAVY))} == {}
    assert set(found["--help"] + found["--version"]) <= set(SLOW), "help imports no command"


def test_planning_the_demo_needs_no_torch() -> None:
    assert not set(steps("command('plan', 'policies/demo.yaml')").popitem()[1]) & set(HEAVY)


def test_verifying_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    """What a user waits for each time; a line at the head of a file soon lets in more."""
    keys.new(tmp_path / "a.key", None)
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "a.json").write_text("{}")
    sign(tmp_path / "release", keys.load_private(tmp_path / "a.key"), release_id="a", sequence=1)
    found = steps(f"command('verify', {str(tmp_path / 'release')!r}, '--key', {str(tmp_path / 'a.pub')!r})").popitem()[1]
    assert set(found) & {*HEAVY, *SLOW, "ruamel", "jinja2"} == set()
    assert "cryptography" in found


def test_torch_free_means_without_torch() -> None:
    """Not only unused: not even to be had."""
    blocked = f"sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
    assert steps(blocked + "command('policy', 'check', 'policies/demo.yaml'); command('verify', '--help')")


def test_layers_are_kept() -> None:
    script = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_a_layer() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    named = set(
        config["importlinter:contract:layers"]["layers"].replace("|", " ").replace(":", " ").replace("(", "").replace(")", "").split()
    )
    there = {f"safeflux.{path.stem}" for path in (ROOT / "safeflux").glob("*.py")} - {"safeflux.__init__"}
    there |= {f"safeflux.{path.parent.name}" for path in (ROOT / "safeflux").glob("*/__init__.py")}
    assert there <= named
