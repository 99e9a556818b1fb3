"""Lists of prompts: each of the layouts in which they are passed around, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from safeflux.attacks import prompts
from safeflux.attacks.prompt_file import read
from safeflux.errors import StageError
from safeflux.policy import Choice, Concept
from safeflux.types import AuditTask

SWORD = Concept("sword", "object", ("sword",), "", (), Choice("mini"), "sword")
COMET = Concept("captain comet", "character", ("captain comet",), "", (), Choice("mini"), "comet")
PERCENT = "hard,inappropriate_percentage,nudity_percentage,q16_percentage,sd_safety_percentage,prompt_toxicity,lexica_url"
LAYOUTS = {  # the heads as the lists have them, the rows invented
    "i2p": f"prompt,categories,{PERCENT},sd_seed,sd_guidance_scale,sd_image_width,sd_image_height,sd_model\n"
    '"a knight, with ""that"" thing","violence, shocking",0,50.0,10.5,1,2,0.1,https://x,77,7,512,512,sd\nan armoury,hate,1,9.0,80.0,1,2,0.1,https://y,78,7,512,512,sd\n',
    "p4d": f",prompt,categories,{PERCENT},evaluation_seed,evaluation_guidance,sd_image_width,sd_image_height,sd_model,case_number\n"
    '0,"a knight, with ""that"" thing",violence,0,50.0,10.5,1,2,0.1,https://x,77,7,512,512,sd,5\n1,an armoury,hate,1,9.0,80.0,1,2,0.1,https://y,78,7,512,512,sd,6\n',
    "ring-a-bell": 'prompt,case_number,evaluation_seed\n"a knight, with ""that"" thing",0,41\nan armoury,1,42\n',
    "ring-a-bell, no head": '"a knight, with ""that"" thing"\nan armoury\n',
    "mma-diffusion": 'target_prompt,adv_prompt\na sword,"a knight, with ""that"" thing"\na blade,an armoury\n',
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_loads_as_it_is(layout: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(LAYOUTS[layout], encoding="utf-8")
    assert [row.text for row in read(tmp_path / "list.csv")] == ['a knight, with "that" thing', "an armoury"]


def test_json_lines_and_a_mark_at_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(
        '{"prompt": "one", "concept": "sword"}\n\n"two"\n{"text": "  three\\n times "}\n{"prompt": "one"}\n'
    )
    rows = read(tmp_path / "list.jsonl")
    assert [(row.text, row.concept) for row in rows] == [("one", "sword"), ("two", None), ("three times", None)]
    assert rows[2].place.endswith("list.jsonl:4")
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfprompt\nune \xc3\xa9p\xc3\xa9e\n")
    assert [row.text for row in read(tmp_path / "bom.csv")] == ["une épée"]


@pytest.mark.parametrize(("where", "texts"), [
    ("nudity_percentage > 50", ["an armoury"]), ("nudity_percentage<=10.5", ['a knight, with "that" thing']), ("hard = 1", ["an armoury"]),
    ("categories = hate", ["an armoury"]), ("sd_seed >= 77", ['a knight, with "that" thing', "an armoury"]),
])  # fmt: skip
def test_rows_can_be_chosen(where: str, texts: list[str], tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(LAYOUTS["i2p"], encoding="utf-8")
    assert [row.text for row in read(tmp_path / "list.csv", where=where)] == texts


@pytest.mark.parametrize(("name", "text", "options", "said"), [
    ("a.csv", "title,number\nx,1\n", {}, r"a\.csv:2: there is no column with prompts, but title, number; wanted one of adv_prompt"),
    ("a.csv", "prompt\nx\n", {"column": "caption"}, r"a\.csv:2: there is no column caption, but prompt"),
    ("a.csv", "prompt,size\nx,big\n", {"where": "size > 3"}, r"a\.csv:2: size is 'big', which is no number"),
    ("a.csv", "prompt\nx\n", {"where": "size > 3"}, r"a\.csv:2: there is no column size"),
    ("a.csv", "prompt\nx\n", {"where": "large"}, "wanted a column, one of"),
    ("a.csv", "prompt,size\nx,2\n", {"where": "size > 3"}, "holds no prompt with size > 3 among its 1 rows"),
    ("a.csv", "prompt\n\n", {}, "holds no prompt"),
    ("a.jsonl", '{"prompt": "x"}\n{"prompt"\n', {}, r"a\.jsonl:2: not JSON"),
    ("a.jsonl", "3\n", {}, r"a\.jsonl:1: came int; wanted a JSON object, or a text"),
])  # fmt: skip
def test_what_cannot_be_read_is_named_with_its_line(name: str, text: str, options: dict[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(StageError, match=said):
        read(tmp_path / name, **options)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="cannot be read: No such file"):
        read(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"prompt\n\xff\n")
    with pytest.raises(StageError, match="byte 7 is no UTF-8"):
        read(tmp_path / "a.csv")


def asked(tmp_path: Path, text: str, concept: str = "", images: int = 5) -> list[tuple[str | None, str]]:
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    task = AuditTask((SWORD, COMET), (), 3, steps=4, batch=7, folder=tmp_path)
    pairs = prompts.plan(task, "list.csv", "", "", concept, images)
    assert len({seed for _, seed in pairs}) == len(pairs)
    return [(p.concept, p.text) for p, _ in pairs]


def test_whom_a_prompt_is_about(tmp_path: Path) -> None:
    assert asked(tmp_path, "prompt\nx\ny\n", "sword") == [("sword", text) for text in "xyxyx"]
    both = asked(tmp_path, "prompt,concept\nx,sword\ny,captain comet\nz,\n")
    assert [text for name, text in both if name == "sword"] == list("xzxzx")
    assert [text for name, text in both if name == "captain comet"] == list("yzyzy")
    with pytest.raises(StageError, match=r"list\.csv:2: the concept 'gun' is none of the policy's; it has captain comet, sword"):
        asked(tmp_path, "prompt,concept\nx,gun\n")
    with pytest.raises(StageError, match="the option concept is 'gun'"):
        asked(tmp_path, "prompt\nx\n", "gun")
