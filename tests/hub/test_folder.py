"""Model folders: what is saved comes back, what is damaged is refused, and nothing is ever half-written."""

import errno
import hashlib
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from geoattn.domains.ensemble import Ensemble
from geoattn.errors import InputError
from geoattn.hub import folder as folder_module
from geoattn.hub import from_pretrained, registry, save_pretrained

FILES = {"config.json", "model.safetensors", "preprocess.json", "metrics.json", "split.json", "README.md"}


@pytest.fixture
def saved(toy, extras, tmp_path):
    """A good model folder."""
    torch.manual_seed(0)
    return save_pretrained(tmp_path / "runs" / "model", toy(4, depth=2), **extras)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder, change):
    """Apply ``change`` to the tensors and write down the new checksum, as a careless tool would."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    put_weights(folder, safetensors.torch.save(tensors))


def put_weights(folder, data):
    (folder / "model.safetensors").write_bytes(data)
    edit_config(folder, sha256={"model.safetensors": hashlib.sha256(data).hexdigest()})


# ---------------------------------------------------------------------------------------------------------- the way


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_saved_model_comes_back_bit_for_bit(toy, extras, tmp_path, dtype, tied):
    model = toy(4, depth=2, tied=tied).to(dtype).train()
    model.seen.fill_(7)
    model.mask[1] = False
    loaded = from_pretrained(save_pretrained(tmp_path / "model", model, **extras))
    assert not loaded.model.training and model.training
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.model.config == model.config
    assert loaded.model.rebuilt.dtype == dtype
    for (key, before), (same_key, after) in zip(
        model.state_dict().items(), loaded.model.state_dict().items(), strict=True
    ):
        assert key == same_key and before.dtype == after.dtype and torch.equal(before, after)
    assert len(list(loaded.model.parameters())) == len(list(model.parameters()))
    x = torch.randn(3, 4, dtype=dtype)
    assert torch.equal(loaded.model(x), model(x))


def test_what_was_written_down_comes_back(saved, extras):
    loaded = from_pretrained(saved)
    assert {path.name for path in saved.iterdir()} == FILES
    assert loaded.task == "molecules" and loaded.folder == saved
    assert loaded.preprocess == extras["preprocess"] and loaded.split == extras["split"]
    assert loaded.metrics["test"]["rmse"] == extras["metrics"]["test"]["rmse"]
    assert loaded.metrics["test"]["r2"]["value"] is None  # NaN is no JSON
    assert loaded.config["class"] == "molecules/toy" and loaded.config["format"] == 1


def test_an_ensemble_comes_back_with_all_members(toy, extras, tmp_path):
    model = Ensemble([toy(3), toy(3), toy(3)])
    loaded = from_pretrained(save_pretrained(tmp_path / "model", model, **extras))
    x = torch.randn(5, 3)
    assert loaded.config["ensemble_size"] == 3 and torch.equal(loaded.model.members(x), model.members(x))
    single = from_pretrained(save_pretrained(tmp_path / "one", Ensemble([model.models[1]]), **extras))
    assert isinstance(single.model, toy) and torch.equal(single.model(x), model.models[1](x))


def test_reading_leaves_the_random_state_alone(saved):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    from_pretrained(saved)
    assert torch.equal(torch.rand(2), expected)


def test_no_pickle_is_opened(saved, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    from_pretrained(saved)


def test_relative_folders_and_names_with_dots(toy, extras, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = save_pretrained("run.v1.2/model.old", toy(2), **extras)
    assert folder == tmp_path / "run.v1.2" / "model.old"
    assert from_pretrained("run.v1.2/model.old").folder == folder


def test_the_folder_is_as_open_as_other_new_folders(saved, tmp_path):
    (tmp_path / "plain").mkdir()
    assert saved.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_importing_the_hub_is_light():
    code = (
        "import sys, geoattn.hub\n"
        "heavy = {'rdkit', 'lightning', 'matplotlib', 'huggingface_hub', 'jinja2', 'torch_geometric', 'numba'}\n"
        "print(heavy & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


# --------------------------------------------------------------------------------------------- replacing and failing


def test_an_older_model_is_replaced_and_nothing_is_left_beside_it(saved, toy, extras):
    save_pretrained(saved, toy(5), **extras)
    assert from_pretrained(saved).model.config["channels"] == 5
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("good_writes", [0, 2, 5])
def test_a_full_disk_leaves_the_old_model_intact(saved, toy, extras, monkeypatch, good_writes):
    before, calls, fsync = contents(saved), [], os.fsync

    def full(handle):
        calls.append(handle)
        if len(calls) > good_writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"model could not be written: No space left on device.*unchanged"):
        save_pretrained(saved, toy(5), **extras)
    monkeypatch.undo()
    assert len(calls) == good_writes + 1 and contents(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_real_refusal_of_the_system_leaves_no_folder(toy, extras, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(InputError, match="File too large"):
            save_pretrained(tmp_path / "model", toy(100), **extras)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_if_the_last_rename_fails_the_old_model_is_put_back(saved, toy, extras, monkeypatch):
    before, rename = contents(saved), type(saved).rename

    def refuse(path, target):
        if path.name.endswith(".part"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(type(saved), "rename", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        save_pretrained(saved, toy(5), **extras)
    assert contents(saved) == before and [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_folder_with_other_things_is_not_replaced(saved, toy, extras):
    (saved / "thesis.tex").write_text("years of work")
    before = contents(saved)
    with pytest.raises(InputError, match=r"holds other things than a model \('thesis.tex'"):
        save_pretrained(saved, toy(5), **extras)
    assert contents(saved) == before


def test_a_file_in_the_way_is_named(toy, extras, tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(InputError, match="is a file, expected a folder"):
        save_pretrained(tmp_path / "model", toy(2), **extras)
    with pytest.raises(InputError, match="could not be written"):
        save_pretrained(tmp_path / "model" / "inner", toy(2), **extras)


def nan_inside(extras, model):
    extras["preprocess"] = {"targets": {"E": [1.0, float("nan")]}}


def object_inside(extras, model):
    extras["split"] = {"train": {1, 2}}


def no_config(extras, model):
    model.config = None


def wrong_config(extras, model):
    model.config = {**model.config, "depht": 3}


def sparse_buffer(extras, model):
    model.register_buffer("table", torch.eye(3).to_sparse_csr())


def surprising_buffer(extras, model):
    model.register_buffer("late", torch.zeros(2))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (nan_inside, r"preprocess.json: targets.E.1 cannot be written as JSON"),
        (object_inside, r"split.json: train cannot be written as JSON .*set"),
        (no_config, r"Toy.config is NoneType, expected a dict"),
        (wrong_config, r"not saved, since it would not load again.*'arguments' do not build.*depht"),
        (sparse_buffer, r"'table' is not a dense tensor.*persistent=False"),
        (surprising_buffer, r"would not load again.*'late' is not a key of this model"),
    ],
)
def test_a_model_that_would_not_load_again_is_not_saved(toy, extras, tmp_path, break_it, message):
    model = toy(3)
    break_it(extras, model)
    with pytest.raises(InputError, match=message):
        save_pretrained(tmp_path / "model", model, **extras)
    assert list(tmp_path.iterdir()) == []


def test_a_class_outside_the_table_is_not_saved(extras, tmp_path):
    with pytest.raises(InputError, match="Linear is not a model class that geoattn can load again"):
        save_pretrained(tmp_path / "model", torch.nn.Linear(2, 2), **extras)


# ------------------------------------------------------------------------------------------------- damaged folders


def remove_pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def remove_checkpoint(folder):
    (folder / "model.safetensors").rename(folder / "last.ckpt")


def make_run_folder(folder):
    inner = folder / "model"
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file():
            path.rename(inner / path.name)


def flip_a_bit(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def truncate(folder):
    put_weights(folder, (folder / "model.safetensors").read_bytes()[:-10])


def pointer(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def replace_with(name, text):
    return lambda folder: (folder / name).write_text(text)


def config(**changes):
    return lambda folder: edit_config(folder, **changes)


def weights(change):
    return lambda folder: edit_weights(folder, change)


FAULTS = {
    **{
        f"no {name}": (lambda f, n=name: (f / n).unlink(), rf"{name} missing") for name in sorted(FILES - {"README.md"})
    },
    "pickle": (remove_pickled, r"pytorch_model.bin and no model.safetensors.*never opens pickled"),
    "checkpoint": (remove_checkpoint, r"last.ckpt and no model.safetensors"),
    "run folder": (make_run_folder, r"is a run folder; its model is in .*model/model"),
    "bit": (flip_a_bit, r"model.safetensors \([\d,]+ bytes\) is not the file that was saved.*SHA-256"),
    "truncated": (truncate, r"model.safetensors cannot be read as safetensors"),
    "pointer": (pointer, r"Git LFS pointer.*git lfs pull"),
    "newer": (config(format=2), r"config.json: the folder has format 2.*pip install -U geoattn"),
    "format 0": (config(format=0), r"'format' is 0, expected a number from 1"),
    "format text": (config(format="1"), r"'format' is '1'"),
    "format missing": (config(format=None), r"'format' is None"),
    "near class": (config(**{"class": "molecules/tow"}), r"'class': Unknown model class.*'molecules/toy'"),
    "import": (config(**{"class": "os:system"}), r"config.json: 'class': Unknown model class 'os:system'"),
    "arguments": (config(arguments={"chanels": 4}), r"'arguments' do not build a molecules/toy.*chanels"),
    "arguments list": (config(arguments=[4]), r"'arguments': got \[4\], expected dict"),
    "no task": (config(task=None), r"'task': got None, expected str"),
    "size 0": (config(ensemble_size=0), r"'ensemble_size' is 0"),
    "size 2": (config(ensemble_size=2), r"'models.0.seen' is missing.*and 18 more"),
    "no sum": (config(sha256={}), r"SHA-256 differs"),
    "json": (replace_with("preprocess.json", "{"), r"preprocess.json is not valid JSON"),
    "not an object": (replace_with("split.json", "[1]"), r"split.json: got a list, expected an object"),
    "not text": (lambda f: (f / "metrics.json").write_bytes(b"\xff\xfe{"), r"metrics.json is not valid JSON"),
    "missing key": (weights(lambda t: t.pop("layers.1.bias")), r"'layers.1.bias' is missing"),
    "extra key": (weights(lambda t: t.update(extra=torch.ones(1))), r"'extra' is not a key of this model"),
    "shape": (
        weights(lambda t: t.update({"layers.0.weight": torch.ones(4, 3)})),
        r"'layers.0.weight' has shape \(4, 3\) float32, expected shape \(4, 4\) float32",
    ),
    "dtype": (
        weights(lambda t: t.update(mask=torch.ones(4, dtype=torch.int32))),
        r"'mask' has shape \(4,\) int32, expected shape \(4,\) bool",
    ),
    "two float dtypes": (
        weights(lambda t: t.update({"layers.0.weight": torch.ones(4, 4).double()})),
        r"'layers.0.weight' has shape \(4, 4\) float64",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_folder_is_refused_by_name(saved, fault):
    break_it, message = FAULTS[fault]
    break_it(saved)
    with pytest.raises(InputError, match=message) as caught:
        from_pretrained(saved)
    assert str(saved) in str(caught.value)


def test_a_missing_card_does_not_matter(saved):
    (saved / "README.md").unlink()
    from_pretrained(saved)


def test_only_the_first_faults_are_listed(saved):
    edit_weights(saved, lambda tensors: tensors.clear())
    with pytest.raises(InputError, match=r"and 4 more"):
        from_pretrained(saved)


def test_a_class_name_imports_nothing(saved, monkeypatch):
    monkeypatch.setattr(folder_module.registry, "import_module", lambda name: pytest.fail(f"{name} was imported"))
    edit_config(saved, **{"class": "subprocess:Popen"})
    with pytest.raises(InputError, match="Unknown model class"):
        from_pretrained(saved)


def test_the_registered_classes_exist_and_are_found_again():
    for name in ["molecules/egnn", "molecules/graph-attention"]:
        assert issubclass(registry.class_of(name), torch.nn.Module)
    model = registry.class_of("molecules/egnn")(out_channels=1, elements=[1, 6], hidden_channels=4, num_layers=1)
    assert registry.name_of(model) == "molecules/egnn"


def test_a_file_and_an_unknown_name_are_told_apart(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"config.json is a file, expected a model folder"):
        from_pretrained(saved / "config.json")
    with pytest.raises(InputError, match=r"no folder 'nowhere/model' here \(.*\) and no shipped model of that name"):
        from_pretrained("nowhere/model")


def test_a_copied_folder_is_as_good(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "elsewhere")
    shutil.rmtree(saved)
    assert from_pretrained(tmp_path / "elsewhere").task == "molecules"
