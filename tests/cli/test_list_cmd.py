"""What there is to choose from, as the command line lists it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from safeflux.families import FAMILIES, MEANS
from safeflux_cli.main import safeflux


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(safeflux, ["list", "models", *arguments])
    assert done.exit_code == 0, done.output
    return done


def test_every_published_model_has_a_line_and_every_word_a_meaning() -> None:
    head, *lines = run().stdout.splitlines()
    rows = {cells[1]: cells for cells in ([cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines) if len(cells) == 5}
    assert head.split("  ")[0] == "family"
    assert list(rows) == [model for family in FAMILIES for model in family.published]
    assert rows["black-forest-labs/FLUX.1-dev"] == [
        "FLUX.1", "black-forest-labs/FLUX.1-dev", "neuron, modulation, head", "per block", "everything",
    ]  # fmt: skip
    assert rows["black-forest-labs/FLUX.2-dev"][3:] == ["shared", "masks only"]
    assert rows["lodestones/Chroma1-HD"][2:] == ["neuron, head", "none", "masks only"]
    assert {row[4] for row in rows.values()} == set(MEANS)
    assert "everything: every command takes" in run().stdout
    assert "nothing trains a mask for it" in " ".join(run().stdout.split())


def test_json_says_the_same() -> None:
    said = json.loads(run("--json").stdout)
    assert said["schema"] == "safeflux-models/1"
    assert said["works"] == MEANS
    assert [family["name"] for family in said["families"]] == [family.name for family in FAMILIES]
    works = {model["name"]: model["works"] for family in said["families"] for model in family["models"]}
    assert [name for name, word in works.items() if word == "everything"] == [
        "black-forest-labs/FLUX.1-schnell", "black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-Krea-dev",
    ]  # fmt: skip
    assert {family["name"]: family["modulation"] for family in said["families"] if family["modulation"] != "per block"} == {
        "FLUX.2": "shared", "Chroma": "none",
    }  # fmt: skip


@pytest.mark.parametrize("arguments", [["list"], ["list", "--help"]])
def test_it_says_what_can_be_listed(arguments: list[str]) -> None:
    assert "models" in CliRunner().invoke(safeflux, arguments).output
