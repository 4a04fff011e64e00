"""Activations on disk: the same rows as live ones, whatever interrupts the writing."""

import json

import pytest
import torch

from saecore.activations.cache.reader import ActivationCache
from saecore.activations.cache.shards import pack_rows, unpack_rows
from saecore.activations.cache.writer import CacheWriter, prepare
from saecore.config import structure_experiment
from saecore.errors import ConfigError, DataError
from saecore.models.hook_site import HookSite
from saecore.runs.run import run
from saecore.storage.repository import Directory
from tests.models.overwriting import overwriting

HOOKS = ("blocks.1.hook_resid_post", "blocks.2.attn.hook_z")
SITE = HookSite(hooks=HOOKS[:1])


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """A separate directory for token files and stamps of verified hashes."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr("saecore.activations.cache.writer.SHARD_BYTES", 0)  # shards of 1024 rows


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Ten small text files."""
    directory = tmp_path_factory.mktemp("text")
    for i in range(10):
        words = [f"def f{j % 17}(x{i}): return x{i} + {j * i % 23}\n" for j in range(120)]
        (directory / f"{i}.txt").write_text("".join(words))
    return directory


def tables(text, output, **sections):
    """A small experiment that reads one hook; `sections` are laid over it."""
    base = {
        "name": "small",
        "output": str(output),
        "model": {"type": "tiny_lm", "hook": HOOKS[0], "device": "cpu"},
        "dataset": {"type": "text_files", "paths": [str(text)], "context_size": 32,
                    "held_out": 0.2, "positions": [1, 32]},
        "buffer": {"tokens": 1024, "model_batch_size": 8},
        "sae": {"architecture": "topk", "d_sae": 96, "k": 4},
        "training": {"tokens": 3000, "batch_size": 200, "lr": 1e-3},
        "evaluation": {"tokens": 256},
    }  # fmt: skip
    return {key: {**value, **sections.pop(key, {})} if isinstance(value, dict) else value
            for key, value in base.items()} | sections  # fmt: skip


def write(text, directory, hooks=(), dtype="float32", **sections):
    """Write a whole cache; the experiment's tables."""
    experiment = tables(text, directory.parent, **sections)
    prepare(structure_experiment(experiment), directory, dtype, hooks).write()
    return experiment


def cached(experiment, directory, **dataset):
    """The same experiment, reading the cache."""
    table = {"type": "cached", "path": str(directory), **dataset}
    return {**experiment, "dataset": table, "buffer": {}, "name": "cached"}


def files(directory):
    """Every file of a cache by name, but for its lock."""
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def weights(result):
    """The bytes of the saved SAE."""
    return (result.directory / "sae" / "sae_weights.safetensors").read_bytes()


def test_training_from_a_cache_gives_the_bits_of_training_live(text, tmp_path):
    """Weights and figures of both are equal; the metadata say where the SAE belongs."""
    live = write(text, tmp_path / "cache", HOOKS)
    from_model = run(structure_experiment(live))
    from_cache = run(structure_experiment(cached(live, tmp_path / "cache")))
    assert weights(from_model) == weights(from_cache)
    assert from_model.evaluation == from_cache.evaluation
    assert from_cache.sae.cfg.metadata["hook_name"] == HOOKS[0]
    assert from_cache.sae.cfg.metadata["context_size"] == 32


def test_every_hook_is_read_once_and_token_aligned(text, tmp_path):
    """Rows of both hooks belong to the same tokens, as the model gives them together."""
    experiment = structure_experiment(tables(text, tmp_path))
    writer = prepare(experiment, tmp_path / "cache", hooks=HOOKS)
    calls = []
    forward = writer.backend.activations
    writer.backend.activations = lambda tokens, hooks: (
        calls.append(tokens) or forward(tokens, hooks)
    )
    writer.write()
    assert all(set(map(int, tokens.shape)) == {8, 32} for tokens in calls)
    contexts = -(-3000 // 31) // 8 + 1
    assert len(calls) <= contexts + 256 // 32 // 8 + 8  # two fills are begun before the last
    cache = ActivationCache(Directory(tmp_path / "cache"))
    z = cache.stream(HookSite(hooks=HOOKS[1:], head=1), side="held_out").next(31)
    activations = forward(cache.contexts[:8], HOOKS)
    torch.testing.assert_close(z.inputs, activations[HOOKS[1]][0, 1:, 1], rtol=0, atol=0)
    site = HookSite(hooks=HOOKS[:1], separate_targets=HOOKS[1:])
    both = cache.stream(site, side="held_out").next(31)
    torch.testing.assert_close(
        both.targets, activations[HOOKS[1]][0, 1:].flatten(1), rtol=0, atol=0
    )
    assert torch.equal(both.tokens, cache.contexts[0, 1:])
    assert both.positions.tolist() == list(range(1, 32))


def test_a_model_that_overwrites_its_tensors(text, tmp_path):
    """A cache of several hooks is the same if the model overwrites tensors after their hooks."""
    hooks = ("blocks.1.hook_mlp_out", HOOKS[1])
    experiment = structure_experiment(tables(text, tmp_path))
    prepare(experiment, tmp_path / "cache", hooks=hooks).write()
    writer = prepare(experiment, tmp_path / "other", hooks=hooks)
    with overwriting(writer.backend.model, "transformer.h.2.ln_1"):
        writer.write()
    assert files(tmp_path / "cache") == files(tmp_path / "other")


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_writing_goes_on_where_it_was_stopped(text, tmp_path, monkeypatch, shard):
    """A writer that dies within any shard leaves whole ones; the rest is as if it had not."""
    write(text, tmp_path / "whole")
    stopped = prepare(structure_experiment(tables(text, tmp_path)), tmp_path / "cache")
    real = CacheWriter._write_shard

    def dies(self, side, number, rows):
        if side == "train" and number == shard:
            (self.directory / "train").mkdir(exist_ok=True)
            (self.directory / "train" / ".tmp-left").write_bytes(b"half a shard")
            raise KeyboardInterrupt
        real(self, side, number, rows)

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "_write_shard", dies)
        with pytest.raises(KeyboardInterrupt):
            stopped.write()
    with pytest.raises(DataError, match="of 3 train shards exist"):
        ActivationCache(Directory(tmp_path / "cache"))
    write(text, tmp_path / "cache")
    assert files(tmp_path / "cache") == files(tmp_path / "whole")


def test_precisions_take_half_and_a_quarter_and_stay_near(text, tmp_path):
    """bfloat16 halves the file, int8 nearly quarters it; no value is off by more than promised."""
    sizes, rows = {}, {}
    for dtype in ("float32", "bfloat16", "int8"):
        write(text, tmp_path / dtype, dtype=dtype)
        sizes[dtype] = len(files(tmp_path / dtype)["train/000000.safetensors"])
        stream = ActivationCache(Directory(tmp_path / dtype)).stream(SITE)
        rows[dtype] = stream.next(2000).inputs
    assert sizes["bfloat16"] < 0.52 * sizes["float32"]
    assert sizes["int8"] < 0.28 * sizes["float32"]
    exact = rows["float32"]
    assert ((rows["bfloat16"] - exact).abs() <= exact.abs() * 2**-8).all()
    assert ((rows["int8"] - exact).abs() <= exact.abs().amax(1, keepdim=True) / 254 * 1.001).all()


def test_int8_of_a_row_of_zeros_is_zeros():
    """A row without a largest value has no scale to divide by."""
    rows = torch.stack([torch.zeros(3), torch.tensor([1.0, -2.0, 0.5])])
    tensors = pack_rows("h", rows, "int8")
    assert torch.equal(unpack_rows("h", tensors, slice(0, 1)), torch.zeros(1, 3))
    torch.testing.assert_close(unpack_rows("h", tensors, slice(1, 2)), rows[1:], rtol=0, atol=0.008)


def test_transcoder_and_sae_without_a_model(text, tmp_path):
    """A cache of two hooks serves a transcoder, and an SAE that is told which hook to take."""
    directory = tmp_path / "cache"
    out = "blocks.1.hook_mlp_out"
    live = write(text, directory, (HOOKS[0], out))
    alone = cached(live, directory, hook=out)
    del alone["model"]
    result = run(structure_experiment(alone))
    assert result.sae.cfg.metadata["hook_name"] == out
    assert set(result.evaluation) == {"reconstruction"}
    model = {**live["model"], "hook": HOOKS[0], "target_hook": out}
    coder = {"architecture": "transcoder", "d_sae": 64, "activation": {"type": "topk", "k": 4}}
    done = run(structure_experiment({**cached(live, directory), "model": model, "sae": coder}))
    assert done.sae.cfg.metadata["hook_name_out"] == out


def test_passes_give_every_row_again_in_another_order(text, tmp_path):
    """Each pass has the same rows; the stream can be set to any position."""
    write(text, tmp_path / "cache")
    stream = ActivationCache(Directory(tmp_path / "cache"), epochs=3, seed=1).stream(SITE)
    whole = stream.next(9000).inputs.view(3, 3000, -1)
    first, second, third = (rows[rows[:, 0].argsort()] for rows in whole)
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert not torch.equal(whole[0], whole[1]) or not torch.equal(whole[0], whole[2])
    stream.seek(4321)
    assert torch.equal(stream.next(77).inputs, whole.flatten(0, 1)[4321:4398])
    stream.seek(9000)
    with pytest.raises(DataError, match="9_000 rows for train, row 9_001"):
        stream.next(1)


def test_resume_of_a_run_on_a_cache_changes_no_bit(text, tmp_path):
    """A run that goes on from its checkpoint ends as one that was not interrupted."""
    live = write(text, tmp_path / "cache")
    training = {**live["training"], "checkpoint": {"every_steps": 4}}
    experiment = {**cached(live, tmp_path / "cache"), "training": training}
    done = run(structure_experiment(experiment))
    saved = weights(done)
    (done.directory / "evaluation.json").unlink()
    for checkpoint in sorted((done.directory / "checkpoints").iterdir())[1:]:
        import shutil

        shutil.rmtree(checkpoint)
    again = run(structure_experiment(experiment), resume=done.directory)
    assert weights(again) == saved


def refused(experiment, match, error=DataError):
    """The run is refused with a message."""
    with pytest.raises(error, match=match):
        run(structure_experiment(experiment))


def test_another_model_hook_or_cache_is_an_error(text, tmp_path):
    """What would be other activations than those wanted is refused by name; nothing is changed."""
    directory = tmp_path / "cache"
    live = write(text, directory)
    before = files(directory)
    using = cached(live, directory)
    refused({**using, "model": {**live["model"], "hook": HOOKS[1]}}, "no hook 'blocks.2.attn")
    refused({**using, "model": {**live["model"], "dtype": "bfloat16"}}, "made with model dtype")
    training = {**live["training"], "tokens": 4000}
    refused({**using, "training": training}, "3_000 rows for train.*larger cache")
    for key, change in {
        "stream.positions": {"dataset": {"context_size": 16, "positions": [1, 16]}},
        "rows": {"training": {"tokens": 2000}},
        "stream.seed": {"dataset": {"seed": 1}},
    }.items():
        with pytest.raises(DataError, match=f"holds a cache with {key}"):
            write(text, directory, **change)
    with pytest.raises(DataError, match=r"holds a cache with dtype = 'float32'.*'int8'"):
        write(text, directory, dtype="int8")
    assert files(directory) == before


def test_settings_that_mean_nothing_are_refused(text, tmp_path):
    """Both or neither place, text keys, a loss through the model."""
    live = tables(text, tmp_path)
    for dataset, match in [
        ({"path": None}, "exactly one of path and repo"),
        ({"repo": "a/b"}, "exactly one of path and repo"),
        ({"context_size": 64}, r"dataset\.context_size: .*remove the key"),
        ({"hook": HOOKS[0]}, r"dataset\.hook: \[model\] names the hooks"),
    ]:
        table = cached(live, "x", **dataset)["dataset"]
        table = {key: value for key, value in table.items() if value is not None}
        with pytest.raises(ConfigError, match=match):
            structure_experiment({**cached(live, "x"), "dataset": table})
    end_to_end = {**live["training"], "loss": "ce"}
    with pytest.raises(ConfigError, match="does not have; expected"):
        structure_experiment({**cached(live, "x"), "training": end_to_end})


@pytest.mark.parametrize("damage", ["cut", "changed", "swapped", "record", "manifest"])
def test_damaged_shard_is_named(text, tmp_path, damage):
    """A shard that is cut, edited or another's is an error that names the file."""
    directory = tmp_path / "cache"
    live = write(text, directory)
    shard, other = (directory / "train" / f"00000{n}.safetensors" for n in (0, 1))
    data = bytearray(shard.read_bytes())
    if damage == "cut":
        shard.write_bytes(data[:-100])
    elif damage == "changed":
        data[-5000] ^= 1
        shard.write_bytes(data)
    elif damage == "swapped":
        shard.write_bytes(other.read_bytes())
    elif damage == "record":
        shard.with_suffix(".json").write_text("{}")
    else:
        manifest = json.loads((directory / "cache.json").read_text())
        (directory / "cache.json").write_text(json.dumps({**manifest, "rows": "many"}))
    refused(cached(live, directory), "cache.json" if damage == "manifest" else "000000")


def test_too_little_disk_is_said_before_anything_is_written(text, tmp_path, monkeypatch):
    """The message has what is needed and what is free."""
    import collections

    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9, 10**5))
    writer = prepare(structure_experiment(tables(text, tmp_path)), tmp_path / "cache")
    with pytest.raises(DataError, match=r"0\.00 GB to write, 0\.00 GB free"):
        writer.estimate()
    assert not (tmp_path / "cache").exists()


def test_two_writers_do_not_meet(text, tmp_path):
    """While one process writes, another is refused."""
    from saecore.errors import StorageError
    from saecore.storage.lock import locked

    (tmp_path / "cache").mkdir()
    with locked(tmp_path / "cache", "wait"), pytest.raises(StorageError, match="in use by"):
        write(text, tmp_path / "cache")
