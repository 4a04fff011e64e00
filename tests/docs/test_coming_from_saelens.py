"""The page for users of SAELens: its Python runs, and its table misses no parameter."""

import json
import re
import tomllib
from pathlib import Path

import attrs
import pytest

from saecore import LanguageModelSAERunnerConfig, load_experiment
from saecore.saelens.parameters import Parameters

PAGE = (Path(__file__).parents[2] / "docs/how-to/coming-from-saelens.md").read_text("utf-8")


@pytest.mark.slow
def test_python(tmp_path, monkeypatch, capsys):
    """The blocks run in order, and the shapes in their comments are those that come out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    texts = [{"text": f"def f{i}(x):\n    return x + {i}\n\n" * 25} for i in range(80)]
    Path("corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in texts))
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "coming-from-saelens.md", "exec"), names)
    said = capsys.readouterr().out
    assert "256 512 blocks.2.hook_resid_post" in said
    for name, shape in re.findall(r"^(\w+) = \S.*# \[([\d, ]+)\]", PAGE, re.MULTILINE):
        assert str(list(names[name].shape)) == f"[{shape}]"
    assert load_experiment("topk.toml")[0] == names["cfg"].experiment()


def test_table():
    """Every parameter has its row, and nothing else has one; the keys exist."""
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", PAGE, re.MULTILINE)
    listed = [name for first, _ in rows for name in re.findall(r"`(\w+)`", first)]
    assert sorted(listed) == sorted(attrs.fields_dict(Parameters))
    keys = {
        key
        for given in ({"activation_fn": "topk", "activation_fn_kwargs": {"k": 2}}, EVERYTHING)
        for key in flat(LanguageModelSAERunnerConfig(**given))
    }
    for _, second in rows:
        for key in re.findall(r"`((?:model|sae|training|dataset|buffer|output)[\w.]*)`", second):
            assert key in keys, key


EVERYTHING = {
    "model_name": "gpt2-small", "hook_layer": 2, "d_in": 256, "d_sae": 512,
    "l1_warm_up_steps": 2, "dataset_path": "somewhere", "n_checkpoints": 2,
}  # fmt: skip


def flat(cfg):
    """Keys of a configuration's experiment file, tables included, and l0 wherever there is l1."""
    found = set()

    def walk(table, path):
        for key, value in table.items():
            here = f"{path}{key}"
            found.update({here, here.replace("l1_", "l0_")})
            if isinstance(value, dict):
                walk(value, f"{here}.")

    walk(tomllib.loads(cfg.toml()), "")
    return found
