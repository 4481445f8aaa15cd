"""Files that no model can be made of: one line each. Files that can are found, fetched and hashed once."""

from __future__ import annotations

import fnmatch
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import filter_repo_objects

from rankbench.bench import models
from rankbench.bench.cost.rounds import PRELOADED
from rankbench.bench.models import weights
from rankbench.bench.models.known import Registered
from rankbench.bench.models.loading import plain_errors
from rankbench.bench.suite import ConfigError, Model
from rankbench.tasks import Head
from rankbench.tasks.data.packages import SMOLLM2
from tests.tiny_text import bert, encoder_tokenizer


def folder_of(path: Path) -> Path:
    bert(2).save_pretrained(path)
    encoder_tokenizer().save_pretrained(path)
    return path


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        values = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))

    return change


def written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def one_part_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    bert(2).save_pretrained(folder, max_shard_size="20KB")
    sorted(folder.glob("model-*.safetensors"))[0].unlink()


def other_format(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.gguf")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 12\n"
METHODS = ("bitsandbytes", "gptq", "awq", "mxfp4", "fp8", "compressed-tensors", "never-heard-of")
FAULTS: list[tuple[Callable[[Path], None], str]] = [
    *((configured(quantization_config={"quant_method": m}), rf"is quantised \({m}\), wh") for m in METHODS),
    (configured(quantization_config={}), r"is quantised \(unknown method\)"),
    (configured(compression_config={"quant_method": "sparse"}), r"is quantised \(sparse\)"),
    (truncated, "a weight file is damaged or a Git-LFS pointer"),
    (written("model.safetensors", POINTER), "a weight file is damaged or a Git-LFS pointer"),
    (written("model.safetensors", b""), "a weight file is damaged or a Git-LFS pointer"),
    (one_part_missing, "No such file or directory: .*model-00001-of-"),
    (other_format, "has no weights that can be read .*; it holds config.json, model.gguf"),
    (written("adapter_config.json", b"{}"), "is a PEFT adapter; merge it into its model"),
    (configured(model_type=...), "Should have a `model_type` key"),
    (configured(model_type="new-model"), "model type `new-model` but Transformers does not recognize"),
    (configured(model_type="vit"), "no model of its architecture with the head that the task needs"),
    (
        configured(model_type="new", auto_map={"AutoConfig": "code.Config"}),
        "needs Python code from its own repository",
    ),
    (configured(hidden_act="zelu"), "KeyError: 'zelu'"),
    (configured(num_attention_heads=5), "multiple of the number of attention heads"),
    (configured(hidden_size="many"), "Validation error for field 'hidden_size'"),
    (written("config.json", b"{"), "not a valid JSON file"),
    (written("tokenizer.json", b"{}"), "cannot be loaded: KeyError"),
    (written("tokenizer.json", POINTER), "one of its JSON files is damaged or a Git-LFS pointer"),
]


def load(model: Model) -> None:
    models.fetch(model)
    models.load_headed(model, Head("sequence", 2), seed=0)


@pytest.mark.parametrize(("spoil", "message"), FAULTS, ids=[message[:40] for _, message in FAULTS])
def test_a_folder_that_is_no_model_is_one_line(spoil: Any, message: str, tmp_path: Path) -> None:
    model = Model(name=str(folder_of(tmp_path)))
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        load(model)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    bert(2).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no tokenizer files with a vocabulary"):
        models.load_tokenizer(Model(name=str(tmp_path)))


@pytest.mark.parametrize("error", [ValueError(), RuntimeError("\n \n"), OSError("first\nsecond")])
def test_an_error_is_told_whatever_its_message(error: Exception) -> None:
    expected = str(error).strip().split("\n")[0] or type(error).__name__
    with (
        pytest.raises(ConfigError, match=f"model x cannot be loaded: {expected}$"),
        plain_errors(Model(name="x")),
    ):
        raise error


def test_each_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    digest = weights.sha256_of
    monkeypatch.setattr(weights, "sha256_of", lambda path: read.append(path) or digest(path))
    model = Model(name=str(folder_of(tmp_path)))
    before = models.identity(model)
    assert models.identity(model) == before
    assert len(read) == len(set(read)) > 2
    (tmp_path / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    assert models.identity(model) != before
    (tmp_path / "model-1.safetensors").rename(tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"is not read beside safetensors")
    assert models.identity(model) == before


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (
            ["model.safetensors", "pytorch_model.bin", "onnx/model.safetensors", "tf_model.h5"],
            ["model.safetensors"],
        ),
        (["pytorch_model.bin", "flax_model.msgpack", "model.fp16.safetensors"], ["pytorch_model.bin"]),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "consolidated.safetensors",
            ],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
        ),
        (["pytorch_model-00001-of-00001.bin", "optimizer.bin"], ["pytorch_model-00001-of-00001.bin"]),
        (  # both forms of both formats, as Mistral's and others' repositories have them
            [
                "model.safetensors",
                "model-00001-of-00001.safetensors",
                "model.safetensors.index.json",
                "pytorch_model-00001-of-00001.bin",
            ],
            ["model.safetensors", "model.safetensors.index.json"],
        ),
        (
            [
                "model-00001-of-00001.safetensors",
                "model-00001-of-00001.fp16.safetensors",
                "model.fp16.safetensors",
                "model.fp16-00001-of-00001.safetensors",
                "model.safetensors.index.json",
                "model.safetensors.index.fp16.json",
                "original/consolidated.00.pth",
                "adapter_model.safetensors",
                "pytorch_model.bin",
                "pytorch_model.bin.index.json",
            ],
            [
                "model-00001-of-00001.safetensors",
                "model.safetensors.index.fp16.json",
                "model.safetensors.index.json",
                "pytorch_model.bin.index.json",
            ],
        ),
        (
            [
                "pytorch_model.bin",
                "pytorch_model.fp16.bin",
                "pytorch_model-00001-of-00001.fp16.bin",
                "training_args.bin",
            ],
            ["pytorch_model.bin"],
        ),
    ],
)
def test_only_what_is_read_is_fetched(held: Any, expected: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The client's own choice of files by the patterns that it is given."""
    texts = ["config.json", "tokenizer.json", "vocab.txt", "spiece.model"]

    def snapshot(name: str, **asked: Any) -> str:
        kept = filter_repo_objects(
            [*held, *texts, "README.md", "figure.png"],
            allow_patterns=asked["allow_patterns"],
            ignore_patterns=asked["ignore_patterns"],
        )
        for file in kept:
            (tmp_path / file).write_text("")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    models.fetch(Model(name="owner/name", revision="0" * 40))
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == sorted([*expected, *texts])
    assert not fnmatch.filter(found, "*/*")


def _convert_slowly(cache: str, barrier: Any, results: Any) -> None:
    import os

    os.environ["RANKBENCH_CACHE"] = cache

    def convert(_folder: Path, _registered: Registered, target: Path) -> None:
        (target / "config.json").write_text("{}")
        barrier.wait(60)  # neither is done before the other has begun

    weights._convert = convert  # type: ignore[assignment]
    target = weights._converted(Path(cache), Registered({}, "none", pin=SMOLLM2, gguf="x.gguf"))
    results.put((str(target), (target / "config.json").read_text()))


@pytest.mark.slow
def test_two_processes_may_convert_one_model(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    barrier, results = context.Barrier(2), context.Queue()
    workers = [
        context.Process(target=_convert_slowly, args=(str(tmp_path), barrier, results)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    first, second = results.get(), results.get()
    assert first == second
    left = list((tmp_path / "models").iterdir())
    assert left == [Path(first[0])]
    assert left[0].stat().st_mode & 0o777 == 0o755
