"""Suites that are broken, each in one way: a sound suite, and what is changed in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SOUND = """\
name = "mine"
title = "Mine"
claim = "What is broken is told."
seeds = [0, 1]
num_threads = 1

[dataset.shapes]
reader = "formula"
num_classes = 4
images_per_class = 100
image_size_px = 12

[system.wider]
like = "vit-micro"
title = "ViT-wider"
args = { width = 96 }

[recipe.short]
steps = 20
batch_size = 16
optimizer = "adam"
base_lr = 3e-3
schedule = "cosine"

[recipe.tune]
epochs = 2
batch_size = 16
optimizer = "sgd"
schedule = "cosine"
learning_rates = [0.03, 0.1]
held_out = 0.2

[protocol.small]
image_size_px = 16
train_transform = "resize"
eval_transform = "resize"

[[pretrain]]
systems = ["vit-micro", "bit-micro", "wider"]
upstream = "shapes"
num_examples = [100, 320]
epochs = [1, 1]
recipe = "short"
protocol = "pretrain-micro"

[[transfer]]
kind = "finetune"
datasets = ["digits"]
protocol = "small"
recipe = "tune"

[[transfer]]
kind = "fewshot"
datasets = ["digits"]
protocol = "fewshot-micro"
shots = [1, 5]

[[transfer]]
kind = "knn"
datasets = ["digits"]
protocol = "fewshot-micro"
neighbours = [5]

[[transfer]]
kind = "probe"
datasets = ["digits"]
protocol = "fewshot-micro"
l2s = [0.1, 1.0]

[[transfer]]
kind = "evaluate"
datasets = ["digits"]
of = "digits"
protocol = "small"

[[profile]]
systems = ["vit-micro"]
image_sizes_px = [16]
batch_sizes = [1, 2]

[[pair]]
systems = ["vit-micro", "bit-micro"]
match = "none"

[report]
tables = ["comparison", "cost"]
figures = ["upstream_size"]
"""

TRANSFERS = SOUND[SOUND.index("[[transfer]]") : SOUND.index("[[profile]]")]
PRETRAINS = SOUND[SOUND.index("[[pretrain]]") : SOUND.index("[[transfer]]")]

WORDS = {
    # the file as a whole
    "a key without a value": ("seeds = [0, 1]", "seeds ="),
    "a bracket left open": ("seeds = [0, 1]", "seeds = [0, 1"),
    "a quotation left open": ('title = "Mine"', 'title = "Mine'),
    "a key twice": ('title = "Mine"', 'title = "Mine"\ntitle = "Yours"'),
    "a table twice": ("[recipe.tune]", "[recipe.short]"),
    "one bracket for two": ("[[pair]]", "[pair]"),
    "two brackets for one": ("[report]", "[[report]]"),
    "a colon for an equals sign": ("seeds = [0, 1]", "seeds: [0, 1]"),
    "a comment mark of another language": ("num_threads = 1", "num_threads = 1 // one"),
    # keys
    "an unknown key": ("num_threads = 1", "num_thread = 1"),
    "an unknown key of a block": ("upstream =", "upstreams ="),
    "an unknown key of a transfer": ("neighbours = [5]", "neighbors = [5]"),
    "a key of another kind": ("neighbours = [5]", "neighbours = [5]\nshots = [1]"),
    "an unknown key of a recipe": ("batch_size = 16\noptimizer = \"adam\"", "batchsize = 16\noptimizer = \"adam\""),
    "an unknown key of a data set": ("images_per_class", "images_of_class"),
    "an unknown key of a system": ("args = {", "arg = {"),
    "an unknown argument of a system": ("width = 96", "widht = 96"),
    "an unknown table": ("[[pair]]", "[[pairs]]"),
    "a missing name": ('name = "mine"\n', ""),
    "a missing claim": ('claim = "What is broken is told."\n', ""),
    "a missing recipe": ('recipe = "tune"\n', ""),
    "a missing kind": ('kind = "knn"\n', ""),
    "a missing number of neighbours": ("neighbours = [5]\n", ""),
    "a missing length": ("steps = 20\n", ""),
    "two lengths": ("steps = 20\n", "steps = 20\nepochs = 1\n"),
    # types
    "text for a number": ("num_threads = 1", 'num_threads = "one"'),
    "a number for text": ('title = "Mine"', "title = 3"),
    "a number for a list": ("seeds = [0, 1]", "seeds = 3"),
    "text for a list": ('datasets = ["digits"]\nprotocol = "small"\nrecipe', 'datasets = "digits"\nprotocol = "small"\nrecipe'),
    "a fraction for a number": ("seeds = [0, 1]", "seeds = [0.5]"),
    "a date for a seed": ("seeds = [0, 1]", "seeds = [2024-01-01]"),
    "true for a number": ("num_threads = 1", "num_threads = true"),
    # numbers
    "a number that is none": ("base_lr = 3e-3", "base_lr = nan"),
    "a number without end": ("base_lr = 3e-3", "base_lr = inf"),
    "a number of many digits": ("steps = 20", f"steps = {'9' * 5000}"),
    "no threads": ("num_threads = 1", "num_threads = 0"),
    "a rate below zero": ("base_lr = 3e-3", "base_lr = -3e-3"),
    "a rate below zero among candidates": ("[0.03, 0.1]", "[0.03, -0.1]"),
    "a rate of a million": ("base_lr = 3e-3", "base_lr = 1e6"),
    "the same rate twice": ("[0.03, 0.1]", "[0.1, 0.1]"),
    "no epochs": ("epochs = [1, 1]", "epochs = [0, 1]"),
    "epochs below zero": ("epochs = 2\n", "epochs = -2\n"),
    "epochs by the billion": ("epochs = 2\n", "epochs = 1e9\n"),
    "steps by the billion": ("steps = 20", "steps = 2_000_000_000"),
    "a batch of nothing": ("batch_size = 16\noptimizer = \"adam\"", "batch_size = 0\noptimizer = \"adam\""),
    "a batch beyond the images": ("batch_size = 16\noptimizer = \"adam\"", "batch_size = 4096\noptimizer = \"adam\""),
    "a batch beyond the downstream images": ("batch_size = 16\noptimizer = \"sgd\"", "batch_size = 4096\noptimizer = \"sgd\""),
    "more images than there are": ("[100, 320]", "[100, 500]"),
    "no images": ("[100, 320]", "[0, 320]"),
    "fewer images than classes": ("[100, 320]", "[2, 320]"),
    "the same size twice": ("[100, 320]", "[100, 100]"),
    "more shots than images": ("shots = [1, 5]", "shots = [1, 500]"),
    "no shots": ("shots = [1, 5]", "shots = []"),
    "the same shots twice": ("shots = [1, 5]", "shots = [5, 5]"),
    "more neighbours than images": ("neighbours = [5]", "neighbours = [5, 2000]"),
    "no neighbours": ("neighbours = [5]", "neighbours = [0]"),
    "the same neighbours twice": ("neighbours = [5]", "neighbours = [5, 5]"),
    "a penalty below zero": ("l2s = [0.1, 1.0]", "l2s = [-1.0]"),
    "the same penalty twice": ("l2s = [0.1, 1.0]", "l2s = [1.0, 1.0]"),
    "a number in quotation marks": ("num_threads = 1", 'num_threads = "1"'),
    "true for a width": ("width = 96", "width = true"),
    "a part held out that is too small": ("held_out = 0.2", "held_out = 0.001"),
    "all held out": ("held_out = 0.2", "held_out = 1.0"),
    "nearly all held out": ("held_out = 0.2", "held_out = 0.9999"),
    "a warm-up beyond the end": ("steps = 20\n", "steps = 20\nwarmup_steps = 100\n"),
    "a dropout of one": ("steps = 20\n", "steps = 20\ndropout = 1.0\n"),
    "a confidence of one": ("[report]\n", "[report]\nconfidence = 1.0\n"),
    "a batch to profile of a million": ("batch_sizes = [1, 2]", "batch_sizes = [1000000]"),
    # names
    "an unknown system": ('"bit-micro", "wider"]', '"bit-mirco", "wider"]'),
    "an unknown data set": ('upstream = "shapes"', 'upstream = "shape"'),
    "an unknown protocol": ('protocol = "pretrain-micro"', 'protocol = "pretrain-mirco"'),
    "an unknown recipe": ('recipe = "short"', 'recipe = "shrot"'),
    "an unknown kind": ('kind = "knn"', 'kind = "kmeans"'),
    "an unknown reader": ('reader = "formula"', 'reader = "formulas"'),
    "an unknown table of the report": ('"cost"]', '"costs"]'),
    "an unknown figure": ('"upstream_size"', '"upstream_sizes"'),
    "an unknown transform": ('eval_transform = "resize"', 'eval_transform = "rezise"'),
    "an unknown optimizer": ('optimizer = "adam"', 'optimizer = "adamw"'),
    "an unknown schedule": ('base_lr = 3e-3\nschedule = "cosine"', 'base_lr = 3e-3\nschedule = "cos"'),
    "an unknown arithmetic": ("steps = 20\n", 'steps = 20\nprecision = "fp32"\n'),
    "weights that are not there": (PRETRAINS, '[[weights]]\nsystems = ["vit-micro"]\nweights = "in21k"\n\n'),
    "a name with a slash": ('name = "mine"', 'name = "../mine"'),
    "an empty name": ('name = "mine"', 'name = ""'),
    "a name of a system that is taken": ("[system.wider]", "[system.vit-b16]"),
    "a name of a protocol that is taken": ("[protocol.small]", "[protocol.vit-finetune]"),
    "a name of a recipe that is taken": ("[recipe.tune]", "[recipe.vit-finetune-pets]"),
    "a system like itself": ('like = "vit-micro"', 'like = "wider"'),
    "a system like none": ('like = "vit-micro"', 'like = "vit-mirco"'),
    "a circle of systems": ("[recipe.short]", '[system.other]\nlike = "third"\n[system.third]\nlike = "other"\n[recipe.short]'),
    "a system twice in a block": ('"bit-micro", "wider"]', '"bit-micro", "vit-micro"]'),
    "a system under two names": ("args = { width = 96 }", "args = {}"),
    "a data set twice in a block": ('datasets = ["digits"]\nprotocol = "small"\nrecipe', 'datasets = ["digits", "digits"]\nprotocol = "small"\nrecipe'),
    # what does not go together
    "no transfer": (TRANSFERS, ""),
    "no beginning": (PRETRAINS, ""),
    "no jobs": (PRETRAINS + TRANSFERS + SOUND[SOUND.index("[[profile]]") : SOUND.index("[[pair]]")], ""),
    "no seeds": ("seeds = [0, 1]", "seeds = []"),
    "a seed twice": ("seeds = [0, 1]", "seeds = [1, 1]"),
    "a seed below zero": ("seeds = [0, 1]", "seeds = [-1]"),
    "a seed of 2^31": ("seeds = [0, 1]", "seeds = [2147483648]"),
    "no systems": ('["vit-micro", "bit-micro", "wider"]', "[]"),
    "no data sets": ('datasets = ["digits"]\nprotocol = "small"\nrecipe', 'datasets = []\nprotocol = "small"\nrecipe'),
    "one epoch for two sizes": ("epochs = [1, 1]", "epochs = [1]"),
    "a transfer of a system that is not there": ("neighbours = [5]", 'neighbours = [5]\nsystems = ["vit-b16"]'),
    "a classifier that is not there": ('of = "digits"', 'of = "shapes"'),
    "a transfer to what has no test": ('datasets = ["digits"]\nprotocol = "fewshot-micro"\nneighbours', 'datasets = ["fractals"]\nprotocol = "fewshot-micro"\nneighbours'),
    "images that hold no patch": ("image_size_px = 16", "image_size_px = 15"),
    "images of no size": ("image_size_px = 16", "image_size_px = 0"),
    "images of a kilometre": ("image_size_px = 16", "image_size_px = 100000"),
    "a profile at a size that holds no patch": ("image_sizes_px = [16]", "image_sizes_px = [16, 17]"),
    "a profile of a size twice": ("image_sizes_px = [16]", "image_sizes_px = [16, 16]"),
    "a pair of one": ('systems = ["vit-micro", "bit-micro"]\nmatch', 'systems = ["vit-micro"]\nmatch'),
    "a pair of one twice": ('systems = ["vit-micro", "bit-micro"]\nmatch', 'systems = ["vit-micro", "vit-micro"]\nmatch'),
    "a pair that never meets": ('systems = ["vit-micro", "bit-micro"]\nmatch', 'systems = ["vit-micro", "hybrid-micro"]\nmatch'),
    "a pair that does not match": ('match = "none"', 'match = "params"\nmax_ratio = 1.0001'),
    "a pair matched on what there is not": ('match = "none"', 'match = "flops"'),
    "masked patches of a CNN": ("steps = 20\n", 'steps = 20\nobjective = "masked-patch"\n'),
    "a rate of GPUs on CPUs": ("steps = 20\n", 'steps = 20\nprecision = "float16"\n'),
    "two GPUs for one worker": ("num_threads = 1", "gpus = 2"),
    "workers on TPUs": ("num_threads = 1", "tpus = 1\nworkers = 2"),
    "workers that do not divide a batch": ("num_threads = 1", "workers = 3"),
    "a scale where there is none": ("num_threads = 1", 'scale = "public"'),
    "an unknown scale": ("num_threads = 1", 'scale = "huge"'),
    "scales and none chosen": ("num_threads = 1", "[scales.smoke]\nseeds = [0]\n"),
    "a folder that is not there": ('[dataset.shapes]', '[dataset.pictures]\nreader = "image_folder"\npath = "gone"\n\n[dataset.shapes]'),
    "a data set without a path": ('[dataset.shapes]', '[dataset.pictures]\nreader = "image_folder"\n\n[dataset.shapes]'),
    "a share for test of everything": ('[dataset.shapes]', '[dataset.pictures]\nreader = "image_folder"\npath = "gone"\ntest_share = 1.0\n\n[dataset.shapes]'),
    "a part in numbers": ('[dataset.shapes]', '[dataset.pictures]\nreader = "image_folder"\npath = "gone"\npart = 1\n\n[dataset.shapes]'),
    "a formula of one class": ("num_classes = 4", "num_classes = 1"),
    "a formula of a billion classes": ("num_classes = 4", "num_classes = 1_000_000_000"),
    "a formula of a billion images": ("images_per_class = 100", "images_per_class = 1_000_000_000"),
    # systems that nobody can have
    "a width of nothing": ("width = 96", "width = 0"),
    "a width below zero": ("width = 96", "width = -96"),
    "a width of a billion": ("width = 96", "width = 1_000_000_000"),
    "a width of ten thousand digits": ("width = 96", f"width = {'9' * 4000}"),
    "a depth of a hundred thousand": ("width = 96", "depth = 100_000"),
    "a width in words": ("width = 96", 'width = "wide"'),
    "a patch of nothing": ("width = 96", "patch_px = 0"),
    "a patch that does not fit": ("width = 96", "patch_px = 5"),
    "heads that do not divide the width": ("width = 96", "num_heads = 5"),
    # what a terminal obeys
    "a control character": ('title = "Mine"', 'title = "Mi\\u001b[31mne"'),
    "a change of direction": ('title = "Mine"', 'title = "Mi\\u202ene"'),
    "a control character in a key": ("num_threads = 1", '"num\\u0007threads" = 1'),
    "a NUL in a path": ('[dataset.shapes]', '[dataset.pictures]\nreader = "image_folder"\npath = "a\\u0000b"\n\n[dataset.shapes]'),
    "a table of an unprintable name": ("[recipe.tune]", '[recipe."tu\\u200ene"]'),
}  # fmt: skip
"""What is replaced by what in the sound suite, by what is broken."""


FILES: dict[str, bytes] = {
    "an empty file": b"",
    "a file of one line break": b"\n",
    "a file in UTF-16": SOUND.encode("utf-16"),
    "a file in Latin-1": SOUND.replace("Mine", "Größe").encode("latin-1"),
    "a file with a NUL": SOUND.encode().replace(b"Mine", b"Mi\0ne"),
    "a file of binary": bytes(range(256)) * 10,
    "a file too large": b"#" * 2_000_000,
    "lists nested deeply": b"a = " + b"[" * 100_000,
    "tables nested deeply": b"[" + b"a." * 20_000 + b"a]\nb = 1\n",
    "a file of YAML": b"name: mine\ntitle: Mine\nseeds:\n  - 0\n",
    "a file of JSON": b'{"name": "mine", "seeds": [0]}\n',
    "line ends of an old Mac": SOUND.replace("\n", "\r").encode(),
}
"""What lies in place of the suite."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "a setting without a value": ("--set", "seeds"),
    "a setting without a key": ("--set", "=3"),
    "a setting that is empty": ("--set", ""),
    "a setting of a key that is not there": ("--set", "num_thread=1"),
    "a setting of a block that is not there": ("--set", "transfer[9].shots=[1]"),
    "a setting of a block below zero": ("--set", "transfer[-1].shots=[1]"),
    "a setting of a field of a list": ("--set", "transfer.shots=[1]"),
    "a setting of half a value": ("--set", "seeds=[0,"),
    "a setting of two lines": ("--set", "seeds=[0]\nname='x'"),
    "a setting with a control character": ("--set", "title='\x1b[2J'"),
    "a setting with a control character for a key": ("--set", "ti\x1btle=3"),
    "a setting of a word for a number": ("--set", "num_threads=many"),
    "a scale that is not there": ("--scale", "public"),
    "a scale that nobody knows": ("--scale", "huge"),
    "more seeds than there are": ("--seeds", "9"),
    "seeds in words": ("--seeds", "two"),
    "no seeds at all": ("--seeds", "0"),
    "no steps": ("--limit-steps", "0"),
    "an option that is not there": ("--sead", "3"),
    "a word too many": ("twice",),
}
"""What stands after a sound suite."""

Place = Callable[[Path], str]


def _folder(folder: Path) -> str:
    (folder / "mine.toml").mkdir()
    return "mine.toml"


def _dangling(folder: Path) -> str:
    (folder / "mine.toml").symlink_to(folder / "gone.toml")
    return "mine.toml"


def _circle(folder: Path) -> str:
    (folder / "mine.toml").symlink_to(folder / "mine.toml")
    return "mine.toml"


PLACES: dict[str, Place] = {
    "a folder for a suite": _folder,
    "no such file": lambda folder: "mine.toml",
    "no such suite": lambda folder: "quikstart",
    "a link that leads nowhere": _dangling,
    "a link to itself": _circle,
    "a suite of no name": lambda folder: "",
    "a name that is too long": lambda folder: f"{'x' * 5000}.toml",
    "a name with a NUL": lambda folder: "a\0b.toml",
    "a name with a control character": lambda folder: "a\x1b[2J.toml",
}
"""What stands in place of the suite, made in a folder."""
