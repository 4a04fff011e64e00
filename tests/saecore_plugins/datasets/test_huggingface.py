"""Datasets in Hugging Face format: every kind of file and column, streamed or not, and errors."""

import json

import pytest

from saecore.activations.documents import identity
from saecore.core.dataset import DocumentStream
from saecore.errors import DataError
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure
from saecore_plugins.datasets import huggingface
from saecore_plugins.models.tiny_lm import DIRECTORY

datasets = pytest.importorskip("datasets")

TEXTS = [f"text number {i}" for i in range(30)]
TURNS = [
    [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"yes {i}"}]
    for i in range(30)
]
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"


@pytest.fixture(autouse=True)
def offline(tmp_path_factory, monkeypatch):
    """No hub, and a cache for what `datasets` prepares."""
    cache = tmp_path_factory.getbasetemp() / "datasets"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def tokenizer():
    """The embedded model's tokenizer, which has no chat template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(DIRECTORY)


def write(path, columns, form):
    """Write columns to a file or directory; gives the `name` that opens it."""
    data = datasets.Dataset.from_dict(columns)
    if form == "saved":
        data.save_to_disk(path / "saved")
        return path / "saved"
    if form == "saved splits":
        datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(path / "all")
        return path / "all"
    path.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        data.to_parquet(path / "a.parquet")
    elif form == "arrow":
        data.save_to_disk(path / "saved")
        (path / "saved" / "data-00000-of-00001.arrow").rename(path / "a.arrow")
        for file in (path / "saved").iterdir():
            file.unlink()
        (path / "saved").rmdir()
    elif form == "text":
        (path / "a.txt").write_text("\n".join(columns["text"]))
    else:
        (path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in data))
    return path


def config_of(name, **settings):
    """The plugin's config, from tables as in a file."""
    table = {"name": str(name), **settings}
    return structure(table, huggingface.HuggingFaceConfig)


def build(name, tokenizer=None, **settings):
    """The dataset's documents."""
    return huggingface.build(config_of(name, **settings), tokenizer)


def read(documents):
    """All documents, of a stream or not."""
    return list(documents.read_from(0) if isinstance(documents, DocumentStream) else documents)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["parquet", "jsonl", "arrow", "text", "saved", "saved splits"])
def test_forms(tmp_path, form, streaming):
    """Every form of file gives the same documents, as a whole and as a stream."""
    dataset = build(write(tmp_path, {"text": TEXTS}, form), streaming=streaming)
    assert isinstance(dataset, DocumentStream) == streaming
    documents = read(dataset)
    assert [document.text for document in documents] == TEXTS
    assert [document.name for document in documents] == [f"row {i}" for i in range(30)]
    assert identity(dataset)["split"] == "train"
    assert identity(dataset)["column"] == "text"
    if streaming:
        assert [document.name for document in dataset.read_from(27)] == [
            "row 27",
            "row 28",
            "row 29",
        ]
        assert [document.text for document in dataset.read_from(27)] == TEXTS[27:]
    else:
        assert len(dataset) == 30


@pytest.mark.parametrize("streaming", [False, True])
def test_one_file(tmp_path, monkeypatch, streaming):
    """A single file is a dataset too, also beside the experiment or with an odd name."""
    directory = write(tmp_path, {"text": TEXTS}, "jsonl")
    (directory / "odd").mkdir()
    odd = (directory / "a.jsonl").rename(directory / "odd" / "a[1] *.jsonl")
    assert [document.text for document in read(build(odd, streaming=streaming))] == TEXTS
    odd.rename(directory / "a.jsonl")
    monkeypatch.chdir(directory)
    for name in (directory / "a.jsonl", "a.jsonl", "."):
        assert [document.text for document in read(build(name, streaming=streaming))] == TEXTS


def test_data_files_and_splits(tmp_path):
    """data_files chooses files by pattern; a split, or a part of one, can be named."""
    for name in ("train", "test"):
        data = datasets.Dataset.from_dict({"text": [f"{name} {i}" for i in range(10)]})
        data.to_parquet(tmp_path / f"{name}-0.parquet")
    assert next(document.text for document in build(tmp_path, split="test")) == "test 0"
    assert len(build(tmp_path, split="train[:30%]")) == 3
    both = build(tmp_path, data_files=["*.parquet"])
    assert len(both) == 20


def test_a_stream_of_several_files_goes_on_anywhere(tmp_path):
    """Read from any row on, a stream of several files and groups of rows gives what it gives
    there when read from the beginning.
    """
    for i in range(3):
        data = datasets.Dataset.from_dict({"text": [f"{i} {j}" for j in range(11)]})
        data.to_parquet(tmp_path / f"{i}.parquet", batch_size=4)
    stream = build(tmp_path, streaming=True)
    everything = read(stream)
    assert len({document.text for document in everything}) == 33
    for number in range(34):
        assert list(stream.read_from(number)) == everything[number:]


@pytest.mark.parametrize("streaming", [False, True])
def test_fingerprint(tmp_path, streaming):
    """The fingerprint changes with the content, the column and the filters; not with the place
    where that can be known without reading a stream to its end.
    """

    def of(name, **settings):
        return build(name, streaming=streaming, **settings).fingerprint

    columns = {"text": TEXTS, "content": TEXTS}
    first = write(tmp_path / "a", columns, "jsonl")
    assert of(first) == of(first)
    others = {
        of(first),
        of(first, column="content"),
        of(first, filter=[{"column": "text", "min_length": 5}]),
        of(write(tmp_path / "b", {**columns, "text": TEXTS[::-1]}, "jsonl")),
    }
    assert len(others) == 4
    if not streaming:
        assert of(write(tmp_path / "c", columns, "jsonl")) == of(first)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column", ["tokens", "input_ids"])
def test_tokenized_columns(tmp_path, column, streaming):
    """Lists of integers are token ids, and come before text."""
    ids = [[i, i + 1, 300] for i in range(30)]
    name = write(tmp_path, {"text": TEXTS, column: ids}, "parquet")
    documents = read(build(name, streaming=streaming))
    assert [list(document.tokens) for document in documents] == ids


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column", ["conversation", "conversations", "messages"])
def test_conversations(tmp_path, tokenizer, column, streaming):
    """Conversations are rendered with the chat template, which is part of the fingerprint."""
    turns = [*TURNS[:-1], [{"role": "user", "content": "last", "name": "an extra"}]]
    name = write(tmp_path, {column: turns}, "jsonl")
    tokenizer.chat_template = TEMPLATE
    dataset = build(name, tokenizer, streaming=streaming)
    documents = read(dataset)
    assert documents[3].text == "<user>question 3<assistant>yes 3"
    assert documents[-1].text == "<user>last"
    tokenizer.chat_template = "other" + TEMPLATE
    assert build(name, tokenizer, streaming=streaming).fingerprint != dataset.fingerprint


def test_a_count_of_tokens_is_not_taken_for_tokens(tmp_path):
    """A column of a usual name that holds something else is passed over."""
    name = write(tmp_path, {"tokens": list(range(30)), "content": TEXTS}, "parquet")
    assert [document.text for document in build(name)] == TEXTS


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("condition", "passing"),
    [
        ({"column": "lang", "equals": "en"}, [0, 2]),
        ({"column": "lang", "one_of": ["en", "de"]}, [0, 1, 2]),
        ({"column": "text", "min_length": 4}, [1, 2]),
        ({"column": "score", "equals": 3}, [2, 3]),
        ({"column": "good", "equals": True}, [3]),
    ],
)
def test_filters(tmp_path, condition, passing, streaming):
    """A row that a filter leaves out is an empty document, so that the others keep their names."""
    columns = {
        "text": ["one", "zwei", "three", ""],
        "lang": ["en", "de", "en", "fr"],
        "score": [1, 2, 3, 3],
        "good": [False, False, False, True],
    }
    name = write(tmp_path, columns, "parquet")
    documents = read(build(name, streaming=streaming, column="text", filter=[condition]))
    texts = [columns["text"][i] if i in passing else "" for i in range(4)]
    assert [document.text for document in documents] == texts
    assert [document.name for document in documents] == [f"row {i}" for i in range(4)]


def test_the_commit_is_recorded(tmp_path, monkeypatch):
    """What the hub resolves a revision to is in the identity and in the fingerprint."""
    local = write(tmp_path, {"text": TEXTS}, "parquet")
    load = datasets.load_dataset_builder

    def hub(path, revision=None, **settings):
        assert (path, revision) == ("someone/texts", "v1")
        builder = load(str(local), **settings)
        builder.hash = commit
        return builder

    monkeypatch.setattr(datasets, "load_dataset_builder", hub)
    streams = []
    for commit in ("abc123", "def456"):  # noqa: B007
        streams.append(build("someone/texts", revision="v1", streaming=True))
    assert identity(streams[0])["revision"] == "abc123"
    assert streams[0].fingerprint != streams[1].fingerprint


# -- errors ----------------------------------------------------------------------------------


def refused(pattern, *args, **settings):
    """Building fails with one line that matches."""
    with pytest.raises(DataError, match=pattern) as caught:
        read(build(*args, **settings))
    assert len(str(caught.value).splitlines()) == 1


def test_a_name_that_is_nowhere():
    """No such directory and no hub: the line says what was looked for."""
    refused(
        r"dataset\.name: 'nobody/nothing' cannot be opened: .*a local file or directory, or a name",
        "nobody/nothing",
    )


def gated(monkeypatch, error):
    """Let opening fail as `datasets` does for a dataset whose terms were not accepted."""
    from datasets.exceptions import DatasetNotFoundError

    def load(*_, **__):
        raise DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub.") from error

    monkeypatch.setattr(datasets, "load_dataset_builder", load)


def test_a_gated_dataset(monkeypatch):
    """A gated dataset says to accept its terms and to log in."""
    import httpx
    from huggingface_hub.errors import GatedRepoError

    response = httpx.Response(403, request=httpx.Request("GET", "https://hub"))
    gated(monkeypatch, GatedRepoError("403", response=response))
    refused(r"'a/b' cannot be opened: .*gated.*accept its terms.*hf auth login", "a/b")


def test_a_missing_dataset(monkeypatch):
    """A name that the hub does not know says to check it."""
    gated(monkeypatch, None)
    refused(r"cannot be opened: .*check the name and the revision", "a/b")


@pytest.mark.parametrize("streaming", [False, True])
def test_no_text_column(tmp_path, streaming):
    """A dataset without a usual column lists those it has; so does a misspelled one."""
    name = write(tmp_path, {"body": TEXTS, "n": list(range(30))}, "parquet")
    refused(r"no column of text.*set dataset\.column \(columns: body, n\)", name,
            streaming=streaming)  # fmt: skip
    refused(r"no column 'bod'; did you mean \"body\".*body, n", name, streaming=streaming,
            column="bod")  # fmt: skip
    refused(r"n of .* holds 0; expected text", name, streaming=streaming, column="n")


def test_conversations_without_a_template(tmp_path, tokenizer):
    """Conversations need a chat template; the line says what to do without one."""
    name = write(tmp_path, {"messages": TURNS}, "jsonl")
    refused(r"messages holds conversations, but .*no chat template; use a model", name, tokenizer)


def test_a_conversation_that_the_template_refuses(tmp_path, tokenizer):
    """What a template raises comes with the row."""
    name = write(tmp_path, {"messages": TURNS}, "jsonl")
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    refused(r"row 0: .*template rejects.*roles must alternate", name, tokenizer)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["parquet", "saved splits"])
def test_no_such_split(tmp_path, form, streaming):
    """A split that does not exist lists those that do."""
    name = write(tmp_path, {"text": TEXTS}, form)
    refused(r"dataset\.split: .* has no split 'trian'; did you mean \"train\"\? \(splits: train",
            name, split="trian", streaming=streaming)  # fmt: skip


@pytest.mark.parametrize("streaming", [False, True])
def test_no_rows(tmp_path, streaming):
    """A dataset without rows is an error, not a run over nothing."""
    name = write(tmp_path, {"text": []}, "parquet")
    refused(r"dataset\.name: .* has no rows in split 'train'", name, streaming=streaming)


def test_no_files(tmp_path):
    """An empty directory, and patterns that match nothing, say what is expected."""
    refused(r"cannot be opened: .*expected parquet, json lines", tmp_path)
    (tmp_path / "notes.doc").write_text("no dataset")
    refused(r"cannot be opened: .{,220}expected parquet, json lines", tmp_path / "notes.doc")
    name = write(tmp_path / "a", {"text": TEXTS}, "parquet")
    refused(r"cannot be opened: .*expected parquet", name, data_files=["*.nope"])


def test_a_row_unlike_the_first(tmp_path):
    """A row that holds something else than the first is named; a missing text is an empty one."""
    rows = [{"text": "one"}, {"text": None}, {"text": "three"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [document.text for document in build(tmp_path)] == ["one", "", "three"]
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    turns = [[{"role": "user", "content": "x"}], [{"from": "user", "value": "x"}]]
    (mixed / "a.jsonl").write_text("\n".join(json.dumps({"messages": turn}) for turn in turns))
    from types import SimpleNamespace

    chat = SimpleNamespace(chat_template="t", apply_chat_template=lambda turns, tokenize: "text")
    refused(r"messages holds conversations, but row 1 has", mixed, chat)


def test_a_damaged_file(tmp_path):
    """A file that cannot be parsed is one line, streamed or not."""
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": \n')
    for streaming in (False, True):
        refused(r"dataset\.name: .* cannot be (opened|read)", tmp_path, streaming=streaming)


def test_a_network_that_fails_under_way(tmp_path):
    """A stream that breaks off says at which row, and that a new run goes on there."""
    dataset = build(write(tmp_path, {"text": TEXTS}, "parquet"), streaming=True)

    def rows():
        yield from ({"text": text} for text in TEXTS[:7])
        raise ConnectionError("reset by peer")

    with pytest.raises(DataError, match=r"read at row 7: reset by peer \(.*rerun"):
        list(dataset.reader.read(rows(), 0))


def test_filters_that_cannot_be(tmp_path):
    """A filter on a missing column lists the columns; one without or with two conditions, and
    min_length of a number, are refused.
    """
    name = write(tmp_path, {"text": TEXTS, "n": list(range(30))}, "parquet")
    condition = {"column": "lang", "equals": "en"}
    refused(r"filter\[0\]\.column: no column 'lang' \(columns: text, n\)", name, filter=[condition])
    refused(r"min_length needs text", name, filter=[{"column": "n", "min_length": 1}])
    for wrong in ({"column": "n"}, {"column": "n", "equals": 1, "one_of": [1]}):
        with pytest.raises(Problems, match="exactly one of equals, one_of and min_length"):
            config_of(name, filter=[wrong])


@pytest.mark.parametrize(
    ("form", "settings", "key"),
    [
        ("parquet", {"revision": "main"}, "revision"),
        ("saved", {"data_files": ["a"]}, "data_files"),
        ("saved", {"config": "a"}, "config"),
    ],
)
def test_keys_that_mean_nothing_here(tmp_path, form, settings, key):
    """A key that a local dataset cannot use is refused, not ignored."""
    name = write(tmp_path, {"text": TEXTS}, form)
    refused(rf"dataset\.{key}: .*remove the key", name, **settings)


def test_a_file_format_as_a_name():
    """`json` and the like are formats, not datasets."""
    refused(r"'json' is a file format; expected the file", "json", data_files=["a.json"])
