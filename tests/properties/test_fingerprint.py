"""Distinct typed values never share canonical bytes; equal ones always do."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UnencodableValue, WeftError
from engine.fingerprint import Bound, FileDigests, canonical, digest
from engine.types import Latent

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(a, b):
    """Equality that tells types, signed zeros and containers apart; all NaNs are one."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


@settings(max_examples=500, deadline=None)
@given(values, values)
def test_bytes_are_equal_exactly_for_equal_typed_values(a, b):
    assert (canonical(a) == canonical(b)) == same(a, b)


@settings(max_examples=500, deadline=None)
@given(values)
def test_a_json_round_trip_keeps_the_bytes(value):
    def plain(v):
        if isinstance(v, tuple | list):
            return all(map(plain, v)) and not isinstance(v, tuple)
        if isinstance(v, dict):
            return all(map(plain, v.values()))
        return not isinstance(v, bytes) and not (isinstance(v, str) and not v.isprintable())

    if plain(value):
        assert canonical(json.loads(json.dumps(value))) == canonical(value)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=4), st.data())
def test_neighbours_do_not_run_together(pairs, data):
    other = data.draw(st.permutations(pairs))
    assert (canonical(pairs) == canonical(other)) == (pairs == other)


LOOKALIKES = [
    1, 1.0, True, "1", b"1", [1], (1,), {"1": 1}, 0, 0.0, -0.0, False, None, "", "None", [], (), {}, [[]], "0",
    float("nan"), float("inf"), -float("inf"), 2**64, float(2**64), 1e400, "nan", ["a", "b"], ["ab"], [["a"], "b"], {"a": "b"},
]  # fmt: skip


def test_lookalikes_differ():
    distinct = {canonical(v) for v in LOOKALIKES}
    assert len(distinct) == len(LOOKALIKES) - 1  # 1e400 is infinity


class Named(NamedTuple):
    """A tuple with a name."""

    value: Any


class Numbers(list):
    """A list with a name."""


def test_a_named_sequence_is_no_plain_one_that_opens_with_its_name():
    name = f"{Named.__module__}.{Named.__qualname__}"
    assert canonical([[(name,), 5], [Named(6)]]) != canonical([[Named(5), [(name,)]], 6])
    sequences = [Named(1), (1,), (name, 1), Named((name, 1)), [Named(1)], Numbers([1]), [1], Numbers([[1]])]
    assert len({canonical(s) for s in sequences}) == len(sequences)


def test_tensors_differ_by_shape_type_and_content():
    base = torch.arange(6, dtype=torch.float32)
    family = [
        base,
        base.reshape(2, 3),
        base.reshape(3, 2),
        base.reshape(1, 6),
        base.to(torch.float64),
        base.to(torch.int32),
        base.to(torch.bfloat16),
        base + 1,
        base[:0],
        base[:0].reshape(0, 2),
        torch.tensor(0.0),
        torch.tensor(-0.0),
        base.numpy(),
        base.numpy().astype(">f4"),
        np.float64(0.0),
        np.zeros(()),
    ]
    assert len({canonical(t) for t in family}) == len(family)
    assert canonical(base.reshape(2, 3).t().contiguous()) == canonical(base.reshape(2, 3).t())


def test_values_differ_by_field():
    a, b = torch.zeros(1, 4, 2, 2), torch.ones(1, 1, 2, 2)
    assert len({digest(v) for v in (Latent(a), Latent(a, b), Latent(a, None, (0,)), Latent(b))}) == 4


def test_a_binding_is_its_identity():
    assert canonical(Bound(object(), b"x")) == b"x"


def test_an_opaque_value_is_refused():
    with pytest.raises(UnencodableValue, match=r"builtins\.object"):
        canonical(object())


def test_a_file_is_its_content(tmp_path: Path):
    a, b, c = (tmp_path / n for n in "abc")
    a.write_bytes(b"same")
    b.write_bytes(b"same")
    c.write_bytes(b"other")
    files = FileDigests()
    assert canonical(a, files) == canonical(b, files) != canonical(c, files)


def test_digests_are_remembered_between_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, memo = tmp_path / "a", tmp_path / "memo.json"
    path.write_bytes(b"content")
    first = FileDigests(memo)
    wanted = first.digest(path)
    first.save()
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read the file again"))
    assert FileDigests(memo).digest(path) == wanted


SOUND = "0" * 64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "5",
        "{}",
        "[5]",
        '["abcde"]',
        "[[]]",
        "[" * 100_000,
        '[["PATH", SIZE, TIME, INODE, 5]]',
        '[["PATH", SIZE, TIME, INODE, "xyz"]]',
        '[["PATH", SIZE, TIME, INODE, "00"]]',
        '[["PATH", SIZE, TIME, INODE, null], 7, {"a": 1}]',
        f'[["PATH", "SIZE", TIME, INODE, "{SOUND}"]]',
        f'[["PATH", SIZE, TIME, INODE, "{SOUND}", 1]]',
    ],
)
def test_a_damaged_memo_costs_only_time(tmp_path: Path, text: str):
    path, memo = tmp_path / "a", tmp_path / "memo.json"
    path.write_bytes(b"content")
    stat = path.stat()
    text = text.replace("PATH", str(path)).replace("SIZE", str(stat.st_size))
    memo.write_text(text.replace("TIME", str(stat.st_mtime_ns)).replace("INODE", str(stat.st_ino)))
    files = FileDigests(memo)
    assert files.digest(path) == FileDigests().digest(path)
    files.save()
    assert len(json.loads(memo.read_text())) == 1


def test_one_damaged_row_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, memo = tmp_path / "a", tmp_path / "memo.json"
    path.write_bytes(b"content")
    first = FileDigests(memo)
    wanted = first.digest(path)
    first.save()
    memo.write_text(json.dumps([["b", 1, 2, 3, "no digest"], 5, *json.loads(memo.read_text())]))
    monkeypatch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read the file again"))
    assert FileDigests(memo).digest(path) == wanted


@pytest.mark.parametrize("memo", ["file/memo.json", "folder", "a\0b/memo.json", "/", "/proc/no/memo.json", "\ud800/memo"])
def test_a_memo_that_cannot_be_written_costs_only_time(tmp_path: Path, memo: str):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    (tmp_path / "folder").mkdir()
    files = FileDigests(tmp_path / memo)
    assert files.digest(path) == FileDigests().digest(path)
    files.save()
    files.save()
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(WeftError, match=r"nowhere: cannot be read.*No such file"):
        FileDigests().digest(tmp_path / "nowhere")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "secret").write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hashlib.file_digest", refuse)
    for path in (folder, folder / "secret"):
        with pytest.raises(WeftError, match=r"secret: cannot be read.*Permission denied"):
            FileDigests().digest(path)


def test_keys_are_pinned():
    """A change here makes every kept result of every user stale: bump the version in `fingerprint` knowingly."""
    assert digest([1, 1.0, True, "1", None, {"b": -0.0, "a": (2,)}]).hex() == PINNED


def test_digests_are_equal_in_another_process():
    code = "from engine.fingerprint import digest; print(digest([1, 1.0, True, '1', None, {'b': -0.0, 'a': (2,)}]).hex())"
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == PINNED


PINNED = "20e0bd16d8c283b930c52ad0851f18623480405c"
