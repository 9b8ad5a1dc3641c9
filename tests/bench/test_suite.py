"""Suites: what a file means, what is wrong with it, and which jobs follow from it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.data import catalog
from bench.errors import SuiteError, UnknownName, UserError
from bench.plan import plan
from bench.plan import suites as suites
from bench.plan.spec import JobGraph, SuiteSpec
from bench.specs import JobSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "plan_quickstart.json"


def planned(spec: SuiteSpec) -> JobGraph:
    return plan(spec, datasets=catalog.datasets(), protocols=catalog.protocols())


def quickstart(**changes: Any) -> SuiteSpec:
    return suites.load("quickstart", settings=[f"{k}={json.dumps(v)}" for k, v in changes.items()])


# --- what a file means ----------------------------------------------------------------------


def test_the_quickstart_plan_is_the_golden_one() -> None:
    """Ids change only when something that changes a number changes."""
    graph = planned(suites.load("quickstart"))
    found = [[job.job_id, job.name] for job in graph.jobs]
    if os.environ.get("VITBENCH_REGENERATE"):
        GOLDEN.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_inputs_come_before_their_users_and_each_job_once() -> None:
    graph = planned(suites.load("quickstart"))
    seen: set[str] = set()
    for job in graph.jobs:
        assert set(job.spec.needs.values()) <= seen
        assert job.job_id not in seen
        assert job.job_id == job.spec.job_id
        seen.add(job.job_id)
    assert len({job.name for job in graph.jobs}) == len(graph.jobs)


def test_the_learning_rate_is_chosen_once_and_never_on_test() -> None:
    spec = suites.load("quickstart")
    graph = planned(spec)
    stages = Counter(job.labels.stage for job in graph.jobs)
    cells = sum(len(block.systems) * len(block.num_examples) for block in spec.pretrain)
    rates = len(spec.transfer[0].learning_rates)
    assert stages == {
        "pretrain": cells * len(spec.seeds),
        "candidate": cells * rates,
        "select": cells,
        "final": cells * len(spec.seeds),
        "fewshot": cells * len(spec.seeds),
    }
    for job in graph.jobs:
        choosing = job.labels.stage in ("candidate", "select")
        reporting = job.labels.stage in ("final", "fewshot")
        assert (job.spec.data.eval_split == "held-out") == choosing
        assert (job.spec.data.eval_split == "test") == reporting
        if job.labels.stage == "final":
            assert job.spec.recipe is not None
            assert job.spec.recipe.base_lr is None
            assert set(job.spec.needs) == {"checkpoint", "select"}


def ids(spec: SuiteSpec) -> list[str]:
    return [job.job_id for job in planned(spec).jobs]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"title": "Another title"},
        {"claim": "Another claim"},
        {"decoders": 2},
        {"max_attempts": 7},
        {"report.confidence": 0.9},
    ],
    ids=str,
)
def test_identity_ignores_what_changes_no_number(change: dict[str, Any]) -> None:
    assert ids(quickstart(**change)) == ids(quickstart())


@pytest.mark.parametrize(
    "change",
    [
        {"num_threads": 2},
        {"gpus": 1},
        {"tpus": 1},
        {"transfer[0].learning_rates": [0.03, 0.2]},
        {"transfer[0].held_out": 0.2},
        {"transfer[1].l2": 1.0},
        {"limit_steps": 3},
    ],
    ids=str,
)
def test_identity_follows_what_changes_a_number(change: dict[str, Any]) -> None:
    assert ids(quickstart(**change)) != ids(quickstart())


def test_a_length_in_steps_or_epochs_is_one_job() -> None:
    in_epochs = quickstart(**{"pretrain[0].num_examples": [1024], "pretrain[0].epochs": [10]})
    first = planned(in_epochs).jobs[0]
    own = first.spec.recipe
    assert own is not None
    assert own.steps == 160
    recipe = own.model_dump(exclude_none=True, exclude={"source"})
    block = in_epochs.pretrain[0].model_dump() | {"recipe": "own", "epochs": []}
    data = in_epochs.model_dump() | {"recipe": {"own": recipe}}
    in_steps = SuiteSpec.model_validate(data | {"pretrain": [block, *data["pretrain"][1:]]})
    assert planned(in_steps).jobs[0].job_id == first.job_id


def test_seeds_share_jobs_between_suites() -> None:
    all_seeds = set(ids(quickstart()))
    first_only = ids(suites.load("quickstart", num_seeds=1))
    assert set(first_only) < all_seeds


def test_an_optional_field_at_its_default_is_not_in_the_identity() -> None:
    spec = planned(quickstart()).jobs[0].spec
    text = json.dumps(spec.model_dump(mode="json", exclude_defaults=True))
    assert '"needs"' not in text
    assert JobSpec.model_validate_json(spec.model_dump_json()).job_id == spec.job_id


# --- scales ---------------------------------------------------------------------------------

SCALED = """
name = "scaled"
title = "Two scales"
claim = "What a scale changes is applied; the rest is left out."
scale = "smoke"
seeds = [0, 1]

[scales.smoke]
seeds = [5]
expected = "far above chance"
cost = "a minute"

[scales.public]
num_threads = 4
gpus = 1

[[pretrain]]
scale = "smoke"
systems = ["vit-micro"]
upstream = "fractals"
num_examples = [64]
recipe = "vit-micro-pretrain"
protocol = "pretrain-micro"

[[pretrain]]
scale = ["public"]
systems = ["bit-micro"]
upstream = "fractals"
recipe = "bit-micro-pretrain"
protocol = "pretrain-micro"

[[transfer]]
kind = "fewshot"
datasets = ["digits"]
protocol = "fewshot-micro"
shots = [1]
"""


@pytest.fixture
def scaled(tmp_path: Path) -> str:
    path = tmp_path / "scaled.toml"
    path.write_text(SCALED, encoding="utf-8")
    return str(path)


def test_a_scale_changes_what_it_names_and_leaves_out_other_blocks(scaled: str) -> None:
    smoke = planned(suites.load(scaled))
    assert smoke.suite.seeds == (5,)
    assert {job.labels.system for job in smoke.jobs} == {"vit-micro"}
    assert list(smoke.suite.scales) == ["smoke"]
    assert len(smoke.suite.pretrain) == 1
    assert smoke.suite.num_threads == 1
    public = planned(suites.load(scaled, scale="public"))
    assert public.suite.seeds == (0, 1)
    assert {job.labels.system for job in public.jobs} == {"bit-micro"}
    assert {job.spec.num_threads for job in public.jobs} == {4}
    assert {job.resources.gpus for job in public.jobs} == {1}
    assert suites.load(scaled, settings=["scale=public"]) == suites.load(scaled, scale="public")


def test_a_setting_wins_over_the_scale(scaled: str) -> None:
    assert suites.load(scaled, settings=["seeds=[7]"]).seeds == (7,)
    assert suites.load(scaled, settings=["scales.smoke.seeds=[8]"]).seeds == (8,)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("scale=full", 'scale: the suite has no scale "full". Scales of this suite: smoke, public'),
        ("scale=pubic", "scale: input should be 'smoke', 'public' or 'full', not 'pubic'"),
        ("pretrain[0].scale=smok", "pretrain[0].scale[0]: input should be 'smoke', 'public'"),
        ("scales.smoke.seed=[1]", 'scales.smoke.seed: unknown key. Did you mean "seeds"?'),
        ("scales.smoke.seeds=[1, 1]", "seeds must be distinct"),
        ("pretrain[0].scale=full", 'scale "smoke"'),
        ("pretrain[0].recipe=x", "pretrain[0].recipe: unknown recipe"),
    ],
)
def test_a_wrong_scale_is_told_with_its_key(scaled: str, setting: str, expected: str) -> None:
    with pytest.raises(SuiteError) as caught:
        planned(suites.load(scaled, settings=[setting]))
    assert expected in str(caught.value)


def test_errors_count_blocks_as_the_file_does(scaled: str) -> None:
    with pytest.raises(SuiteError, match=r"pretrain\[1\]\.upstream: unknown data set"):
        planned(suites.load(scaled, settings=["scale=public", "pretrain[1].upstream=x"]))


def test_a_suite_of_one_scale_has_no_other() -> None:
    with pytest.raises(SuiteError, match=r'no scale "full"\. It has one scale'):
        suites.load("quickstart", scale="full")


# --- what is wrong with a file --------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("pretrain[0].systems=['vit-mirco']", 'unknown system "vit-mirco". Did you mean "vit-mic'),
        ("pretrain[0].upstream='fractal'", 'unknown data set "fractal". Did you mean "fractals"?'),
        ("pretrain[0].recipe='vit-pretrain-micro'", "pretrain[0].recipe: unknown recipe"),
        ("pretrain[0].protocol='x'", "pretrain[0].protocol: unknown protocol"),
        ("pretrain[0].num_examples=[1024,4096,99999999]", "pretrain[0].num_examples[2]"),
        ("pretrain[0].epochs=[1]", "one entry for each entry of num_examples"),
        ("transfer[1].shots=[1, 5000]", "transfer[1].shots[1]: 5000 images for each"),
        ("transfer[1].shots=[0]", "shots must be at least 1"),
        ("transfer[0].learning_rates=[-1.0]", "learning_rates must lie between"),
        ("transfer[0].learning_rates=[]", "transfer[0].learning_rates: missing, and the recipe"),
        ("transfer[0].held_out=1.5", "transfer[0].held_out: input should be less than 1, not 1.5"),
        ("transfer[0].held_out=0.001", "too few to choose a learning rate"),
        ("transfer[0].hold_out=0.1", 'unknown key. Did you mean "held_out"?'),
        ("transfer[1].recipe='x'", 'transfer[1].recipe: unknown key. It is a key of kind = "finet'),
        ("transfer[1].search='asha'", 'It is a key of kind = "finetune". Known keys: datasets, dr'),
        (
            "transfer[0].shots=[1]",
            'transfer[0].shots: unknown key. It is a key of kind = "fewshot"',
        ),
        ("transfer[0].knd='x'", 'transfer[0].knd: unknown key. Did you mean "kind"?'),
        ("transfer[0].kind=3", "transfer[0].kind: input should be a valid string, not 3"),
        (
            "transfer[0].kind='finetuen'",
            'transfer[0].kind: unknown transfer kind "finetuen". Did you mean "finetune"?',
        ),
        (
            "pair[0].systems=['vit-b16', 'bit-micro']",
            'pair[0].systems[0]: "vit-b16" is not pre-trained in this suite',
        ),
        ("pair[0].max_ratio=1.000001", "pair[0]: pre-training compute"),
        (
            "pair[0]={vit='vit-micro', bit='bit-micro'}",
            'pair[0]: unknown keys "vit", "bit": write systems = ["vit-micro", "bit-micro"]',
        ),
        ("pair[0].system=['vit-micro']", 'pair[0].system: unknown key. Did you mean "systems"?'),
        ("pair[0].systems=['vit-micro']", "pair[0].systems: "),
        ("pair[0].systems=['vit-micro', 'vit-micro']", "pair[0]: systems must be distinct"),
        (
            "pair[0].systems=['vit-micro', 'ViT-micro/4']",
            'pair[0].systems[1]: "ViT-micro/4" is "vit-micro", which the pair already names',
        ),
        ("pair[0].match='flops'", "pair[0].match: input should be 'exaflops', 'params', 'forward"),
        (
            "pair[0]={systems=['vit-micro', 'bit-micro'], match='none', max_ratio=2}",
            'pair[0]: match = "none" uses no max_ratio',
        ),
        (
            "pair[0]={systems=['vit-micro', 'bit-micro'], match='params', max_ratio=1.01}",
            "pair[0]: parameters on fractals/1024 differs by",
        ),
        (
            "pair[0]={systems=['vit-b16', 'bit-micro'], match='params'}",
            'pair[0].systems[0]: "vit-b16" is not pre-trained in this suite, nor are weights of it',
        ),
        ("report.tables=3", "report.tables"),
        ("seeds=[]", "seeds: "),
        ("seeds=[0,0]", "seeds must be distinct"),
        ("seeds=[-1]", "seeds must lie in [0, 2^31)"),
        ("num_threads=0", "num_threads: input should be greater than 0, not 0"),
        ("nmae='x'", 'nmae: unknown key. Did you mean "name"?'),
        ("name='../../etc'", "name: "),
        ("pretrain[0].systems=['../../etc/passwd']", "unknown system"),
        ("recipe.own.steps=3", "recipe.own"),
        ("pretrain[9].recipe='x'", "there is no entry [9]. Entries are numbered [0] to [2]"),
        ("pretrain.recipe='x'", "--set: pretrain.recipe"),
        ("seeds", "not of the form key=value"),
        ("seeds=[0,", "is not a TOML value"),
        ("=3", "not of the form key=value"),
        ("seeds=[0]\nname='x'", "--set"),
    ],
)
def test_a_wrong_field_is_told_with_key_cause_and_cure(setting: str, expected: str) -> None:
    with pytest.raises(SuiteError) as caught:
        planned(suites.load("quickstart", settings=[setting]))
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name = ", "not valid TOML: invalid value"),
        (b"name = 'a'\nname = 'b'\n", "not valid TOML"),
        (b"\xff\xfe", "byte 0: not UTF-8 text"),
        (b"a = " + b"[" * 5000, "not valid TOML"),
        (b"", "name: missing"),
        (b"#" * 2_000_000, "too large"),
        (b"name = 'a'\x00", "not valid TOML"),
    ],
    ids=["broken", "duplicate", "utf16", "deep", "empty", "huge", "nul"],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        suites.load(str(path))
    assert expected in str(caught.value)
    assert "bad.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_suites_are_told_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match='Did you mean "quickstart"'):
        suites.load("quikstart")
    with pytest.raises(SuiteError, match="no such file"):
        suites.load("nowhere/quickstart.toml")


def test_seed_and_step_limits_are_checked() -> None:
    with pytest.raises(UserError, match="the suite has 3 seeds"):
        suites.load("quickstart", num_seeds=9)
    with pytest.raises(UserError, match="at least 1"):
        suites.load("quickstart", limit_steps=0)


def test_an_image_must_hold_a_patch() -> None:
    settings = ["pretrain[0].systems=['vit-b16']"]
    with pytest.raises(SuiteError, match=r"pretrain\[0\]\.protocol: image size 12 px .*vit-b16"):
        planned(suites.load("quickstart", settings=settings))


def test_settings_reach_any_field() -> None:
    spec = suites.load(
        "quickstart",
        settings=[
            "seeds=[7]",
            "pretrain[1].epochs=[1, 1, 1]",
            "transfer.0.held_out=0.2",
            "claim=Short",
            "report.confidence=0.9",
        ],
    )
    assert spec.seeds == (7,)
    assert spec.pretrain[1].epochs == (1, 1, 1)
    assert spec.transfer[0].held_out == 0.2
    assert spec.claim == "Short"
    assert spec.report.confidence == 0.9


@pytest.mark.parametrize(
    ("text", "key", "code"),
    [
        ('title = "T\\u001b[31mred"', "title", "U+001B"),
        ('claim = "a \\u202e b"', "claim", "U+202E"),
        ('[dataset."x\\u0007"]\nreader = "cifar"', "dataset", "U+0007"),
        ('[report]\ntables = ["pairs", "a\\u0000"]', "report.tables[1]", "U+0000"),
    ],
)
def test_characters_that_a_terminal_obeys_are_refused(
    tmp_path: Path, text: str, key: str, code: str
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text + "\n", encoding="utf-8")
    with pytest.raises(
        SuiteError, match=rf"holds the control character {re.escape(code)}"
    ) as error:
        suites.load(str(file))
    assert f": {key}" in str(error.value)
    assert str(error.value).isprintable()


def test_text_in_any_script_is_a_title(tmp_path: Path) -> None:
    file = tmp_path / "good.toml"
    shipped = suites.locate("quickstart").read_text(encoding="utf-8")
    title = "Größe, 大きさ, حجم, गुणवत्ता"
    lines = [
        f'title = "{title}"' if line.startswith("title") else line for line in shipped.split("\n")
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert suites.load(str(file)).title == title


def test_a_byte_order_mark_is_not_read_as_text(tmp_path: Path) -> None:
    file = tmp_path / "marked.toml"
    file.write_bytes(b"\xef\xbb\xbf" + suites.locate("quickstart").read_bytes())
    assert suites.load(str(file)).name == "quickstart"
