"""What `saecore convert` writes, read by the authors' own classes.

    python -m tests.bench.converted write DIR        # with our environment
    python tests/bench/converted.py check DIR        # with the peers' (and tests/ not on its path)

`check` prints, for every SAE and format, the largest differences of features and reconstructions;
packages that are not installed are left out.
"""

import importlib
import json
import sys
import types
from pathlib import Path

import torch


def write(directory):
    """Convert an SAE of every kind, with the features that each must give."""
    from saecore.releases.convert import convert
    from saecore.releases.load import Loaded
    from tests.releases.saes import KINDS, kind

    for name, (_, formats) in KINDS.items():
        sae = kind(name)
        for target in formats & {"saelens", "dictionary_learning", "sparsify"}:
            place = directory / target / name.replace(", ", "_").replace(" ", "_")
            convert(Loaded(sae, {}, None), target, place, force=True)
            published = sae.to_inference().eval()
            x = torch.randn(3, 8, sae.cfg.d_in, generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                expected = {"x": x, "features": published.encode(x), "x_hat": published(x)}
            torch.save(expected, directory / target / f"{place.name}.expected")
            print(target, name)


def part(package, *names):
    """Modules of a package without its __init__, which would import everything it trains with."""
    root = next(Path(one) / package for one in sys.path if (Path(one) / package).is_dir())
    stub = types.ModuleType(package)
    stub.__path__ = [str(root)]
    sys.modules[package] = stub
    return [importlib.import_module(f"{package}.{name}") for name in names]


def with_saelens(place, x):
    """SAELens 6's SAE."""
    from sae_lens import SAE

    sae = SAE.load_from_disk(str(place))
    heads = x.unflatten(-1, (2, -1)) if sae.cfg.reshape_activations == "hook_z" else x
    return sae.encode(heads), sae(heads).view(*x.shape[:2], -1)


def with_dictionary_learning(place, x):
    """The class that the file names, as its authors load it."""
    (module, topk) = part("dictionary_learning", "dictionary", "trainers.top_k")
    name = json.loads((place / "config.json").read_text())["trainer"]["dict_class"]
    cls = getattr(module, name, None) or topk.AutoEncoderTopK
    options = {"normalize_decoder": False} if name == "AutoEncoder" else {}
    own = cls.from_pretrained(str(place / "ae.pt"), device="cpu", **options)
    rows = x.flatten(0, 1)
    features = own.encode(rows)
    return features.view(*x.shape[:2], -1), own(rows).view(x.shape)


def with_sparsify(place, x):
    """SparseCoder; its features are those of encode, scattered."""
    (module,) = part("sparsify", "sparse_coder")
    (folder,) = [one.parent for one in place.rglob("cfg.json")]
    coder = module.SparseCoder.load_from_disk(folder, device="cpu")
    rows = x.flatten(0, 1)
    acts, indices, _ = coder.encode(rows)
    features = torch.zeros(len(rows), coder.num_latents).scatter(1, indices, acts)
    return features.view(*x.shape[:2], -1), coder(rows).sae_out.view(x.shape)


READERS = {
    "saelens": with_saelens,
    "dictionary_learning": with_dictionary_learning,
    "sparsify": with_sparsify,
}


def check(directory):
    """Read with the authors' classes and compare."""
    worst = 0.0
    for target, reader in READERS.items():
        for file in sorted((directory / target).glob("*.expected")):
            expected = torch.load(file, weights_only=True)
            try:
                with torch.no_grad():
                    features, x_hat = reader(file.with_suffix(""), expected["x"])
            except ImportError as error:
                print(f"{target}: not installed here: {error}")
                break
            differences = [
                float((one - expected[key]).abs().max())
                for one, key in ((features, "features"), (x_hat, "x_hat"))
            ]
            worst = max(worst, *differences)
            print(target, file.stem, *(f"{one:.1e}" for one in differences))
    print(f"largest difference: {worst:.1e}")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
