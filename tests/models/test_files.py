"""Model files that nobody vouches for."""

from __future__ import annotations

import json
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import ModelFileError
from engine.models import files


def _write(path, header, data=b"", *, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def _entry(shape=(2,), dtype="F32", offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_a_header_names_shapes_and_formats(tmp_path):
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.float16)}, tmp_path / "x.safetensors", {"note": "hi"})

    header = files.read_header(tmp_path / "x.safetensors")

    assert dict(header.tensors) == {"a": files.TensorInfo((2, 3), "F32"), "b": files.TensorInfo((4,), "F16")}
    assert header.metadata == {"note": "hi"}


HOSTILE = {
    "empty": (b"", "no header"),
    "of another format": (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "no header"),
    "cut in the header": ((1000).to_bytes(8, "little") + b"{}", "no header"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_bytes_that_are_no_safetensors_are_refused(content, message, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)

    with pytest.raises(ModelFileError, match=message) as error:
        files.read_tensors(path)

    assert error.value.file == str(path)


HEADERS = {
    "not JSON": (b"{nope", b"", "not JSON"),
    "not UTF-8": (b'{"\xff": 1}', b"", "not JSON"),
    "a list": ([], b"", "no header|not a JSON object"),
    "nested without end": (b"[" * 100_000, b"", "not JSON"),
    "a name twice": (b'{"a": 1, "a": 2}', b"", "twice"),
    "an entry that is no object": ({"a": 1}, b"", "lacks dtype"),
    "a negative size": ({"a": _entry((-2,))}, b"\0" * 8, "lacks dtype"),
    "a size that is no integer": ({"a": _entry((2.0,))}, b"\0" * 8, "lacks dtype"),
    "an unknown format": ({"a": _entry(dtype="F31")}, b"\0" * 8, "unknown number format"),
    "more numbers than bytes": ({"a": _entry((3,))}, b"\0" * 8, "do not hold"),
    "a size that overflows": ({"a": _entry((2**40, 2**40))}, b"\0" * 8, "do not hold"),
    "data that is missing": ({"a": _entry()}, b"\0" * 4, "4 bytes too early"),
    "metadata that is no object": ({"__metadata__": 1}, b"", "metadata"),
}


@pytest.mark.parametrize(("header", "data", "message"), HEADERS.values(), ids=HEADERS)
def test_a_hostile_header_is_refused(header, data, message, tmp_path):
    with pytest.raises(ModelFileError, match=message):
        files.read_header(_write(tmp_path / "x.safetensors", header, data))


def test_overlapping_tensors_are_refused(tmp_path):
    path = _write(tmp_path / "x.safetensors", {"a": _entry(), "b": _entry()}, b"\0" * 8)

    with pytest.raises(ModelFileError, match="cannot read its tensors"):
        files.read_tensors(path)


def test_a_header_beyond_the_limit_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes((files.HEADER_LIMIT_BYTES + 1).to_bytes(8, "little"))
    os.truncate(path, files.HEADER_LIMIT_BYTES + 100)

    with pytest.raises(ModelFileError, match="the limit is 16777216"):
        files.read_header(path)


def test_too_many_tensors_are_refused(tmp_path):
    entries = {f"{n}": _entry((0,), offsets=(0, 0)) for n in range(files.TENSOR_LIMIT + 1)}

    with pytest.raises(ModelFileError, match="the limit is 50000"):
        files.read_header(_write(tmp_path / "x.safetensors", entries))


def test_a_truncated_file_is_refused_and_names_the_tensor(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"first": torch.zeros(10), "last": torch.zeros(100)}, path)
    os.truncate(path, path.stat().st_size - 50)

    with pytest.raises(ModelFileError, match="50 bytes too early") as error:
        files.read_tensors(path)

    assert error.value.key == "last"


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ModelFileError, match="No such file"):
        files.read_tensors(tmp_path / "x.safetensors")
    with pytest.raises(ModelFileError, match="cannot read it"):
        files.read_tensors(tmp_path / "x.ckpt")


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/owned",)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_with_code_is_refused(is_zip, tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "evil": _Evil()}, path, _use_new_zipfile_serialization=is_zip)

    with pytest.raises(ModelFileError, match="refused: it is a pickle that may run code"):
        files.read_tensors(path)


def test_a_plain_pickle_is_refused(tmp_path):
    (tmp_path / "x.pt").write_bytes(pickle.dumps(_Evil()))

    with pytest.raises(ModelFileError):
        files.read_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "params_ema", "model"])
def test_tensors_that_torch_saved_are_read(wrapper, is_zip, tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(4, dtype=torch.float16)}
    path = tmp_path / "x.ckpt"
    torch.save({wrapper: tensors, "step": 3} if wrapper else tensors, path, _use_new_zipfile_serialization=is_zip)

    read = files.read_tensors(path)

    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_what_training_tools_left_in_a_checkpoint_does_no_harm(tmp_path, monkeypatch):
    """Lightning's callback class and numpy scalars, as in the published SD1 checkpoints."""
    import sys
    import types

    import numpy as np

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "x.ckpt"
    callbacks = {module.ModelCheckpoint: {"best": np.float64(0.5)}}
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": callbacks, "epoch": 3}, path)

    assert torch.equal(files.read_tensors(path)["a"], torch.ones(2))


def test_a_compressed_archive_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "x.pt", "w") as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry), compress_type=zipfile.ZIP_DEFLATED)

    with pytest.raises(ModelFileError, match="compressed archive"):
        files.read_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize("saved", [[1, 2], {"a": 1}, {}, {"state_dict": {"a": "b"}}])
def test_a_pickle_without_tensors_is_refused(saved, tmp_path):
    torch.save(saved, tmp_path / "x.pt")

    with pytest.raises(ModelFileError, match="cannot find tensors"):
        files.read_tensors(tmp_path / "x.pt")


def test_shards_are_joined_by_their_index(tmp_path):
    part = tmp_path / "unet"
    part.mkdir()
    save_file({"a": torch.zeros(1)}, part / "one.safetensors")
    save_file({"b": torch.ones(1)}, part / "two.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))

    assert files.read_part(tmp_path, "unet").keys() == {"a", "b"}
    assert files.part_shapes(tmp_path, "unet") == {"a": (1,), "b": (1,)}


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/outside.safetensors", "..\\outside.safetensors", "..", "", "gone"]
)
def test_an_index_does_not_lead_outside_its_folder(name, tmp_path):
    (tmp_path / "unet").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "outside.safetensors")
    index = tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))

    with pytest.raises(ModelFileError, match="no such file beside the index"):
        files.read_part(tmp_path, "unet")


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', "[" * 100_000])
def test_a_damaged_index_is_refused(text, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)

    with pytest.raises(ModelFileError, match="cannot read the index"):
        files.read_part(tmp_path, "unet")
