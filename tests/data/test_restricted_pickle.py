import os
import pickle
import tracemalloc

import numpy as np
import pytest
from support.cifar10_files import python2_array, python2_batch, random_batch

from alexnet_tf1.data import restricted_pickle
from alexnet_tf1.data.restricted_pickle import BadPickleError, RefusedNameError


def as_numpy(array):
    flat = np.frombuffer(array.elements(), array.dtype)
    return flat.reshape(array.shape, order=array.order)


def test_python2_batch_is_read_as_it_was_written():
    images, labels = random_batch(7)
    batch = restricted_pickle.loads(python2_batch(images, labels))
    assert batch["labels"] == labels
    assert batch["batch_label"] == "training batch 1 of 5"
    np.testing.assert_array_equal(as_numpy(batch["data"]), images)


def test_a_batch_of_the_full_number_is_within_the_bounds():
    images, labels = random_batch(10_000 // 100)
    batch = restricted_pickle.loads(python2_batch(images, labels * 100))
    assert (len(batch["labels"]), len(batch["filenames"])) == (10_000, 10_000)


def test_the_writer_writes_what_python_reads():
    images, labels = random_batch(7)
    batch = pickle.loads(python2_batch(images, labels), encoding="latin1")
    assert batch["labels"] == labels
    np.testing.assert_array_equal(batch["data"], images)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("old_names", [False, True], ids=["numpy2", "numpy1"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda a: a[:, ::3]])
def test_todays_pickles_of_arrays_are_read(protocol, old_names, layout):
    images = layout(random_batch(5)[0])
    data = pickle.dumps({"data": images, "labels": [1, 2], "none": None}, protocol=protocol)
    if old_names and protocol < 4:  # later protocols count the name's length
        data = data.replace(b"cnumpy._core.", b"cnumpy.core.")
    batch = restricted_pickle.loads(data)
    assert batch["labels"] == [1, 2]
    np.testing.assert_array_equal(as_numpy(batch["data"]), images)


class Runs:
    """Unpickled by pickle.loads, it calls what it was given."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("where", ["alone", "in a list", "as an image array"])
@pytest.mark.parametrize("how", ["os.system", "eval", "exec", "open"])
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path, protocol, where, how):
    trace = tmp_path / "was_here"
    attack = {
        "os.system": Runs(os.system, f"touch {trace}"),
        "eval": Runs(eval, f"open({str(trace)!r}, 'w')"),
        "exec": Runs(exec, f"open({str(trace)!r}, 'w')"),
        "open": Runs(open, str(trace), "w"),
    }[how]
    content = {"alone": attack, "in a list": [1, attack], "as an image array": {"data": attack}}
    data = pickle.dumps(content[where], protocol=protocol)
    with pytest.raises(RefusedNameError, match=r"names '\w+\.\w+'"):
        restricted_pickle.loads(data)
    assert not trace.exists()
    if how == "open":  # the attack is real: Python's own unpickler is taken in
        del content
        loaded = pickle.loads(data)
        assert trace.exists()
        for item in loaded.values() if isinstance(loaded, dict) else [loaded]:
            (item[1] if isinstance(item, list) else item).close()


@pytest.mark.parametrize(
    "name",
    [
        "numpy\nload",
        "numpy\nfromfile",
        "numpy.core.multiarray\nscalar",
        "numpy.core.multiarray\n_reconstruct.__globals__",
        "numpy\nndarray.tofile",
        "numpy\ndtype.__class__",
        "numpy.f2py\ndiagnose",
        "_codecs\ndecode",
        "builtins\ngetattr",
        "importlib\nimport_module",
        "copyreg\n_reconstructor",
    ],
)
def test_names_near_the_admitted_ones_are_refused(name):
    with pytest.raises(RefusedNameError):
        restricted_pickle.loads(b"\x80\x02c" + name.encode() + b"\n.")


def test_a_name_cannot_write_control_characters_to_the_terminal():
    with pytest.raises(RefusedNameError) as caught:
        restricted_pickle.loads(b"\x80\x02X\x05\x00\x00\x00\x1b[31mX\x01\x00\x00\x00m\x93.")
    assert str(caught.value).isprintable()


def encode_again_and_again():
    """One text of a megabyte encoded two hundred times: 200 MB from one."""
    start = b"\x80\x02c_codecs\nencode\nq\x00X\x00\x00\x10\x00" + b"x" * 2**20 + b"q\x01"
    return start + b"U\x06latin1q\x02" + b"h\x00h\x01h\x02\x86R" * 200 + b"."


BOMBS = {
    "memo index": b"\x80\x02Nr\xff\xff\xff\xff.",  # Python's own: 64 GiB
    "string length": b"\x80\x02T\xff\xff\xff\x7fx.",
    "bytes length": b"\x80\x04\x8e" + b"\xff" * 8 + b"x.",
    "bytearray length": b"\x80\x05\x96" + b"\xff" * 7 + b"\x7fx.",
    "frame length": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "shape": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    b"J\xff\xff\xff\x7f\x85U\x01b\x87R.",
    "dicts": b"\x80\x02" + b"}" * 2_000_000 + b".",
    "marks": b"\x80\x02" + b"(" * 2_000_000 + b".",
    "encode": encode_again_and_again(),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_bombs_stay_small(bomb):
    tracemalloc.start()
    try:
        if bomb == "shape":
            restricted_pickle.loads(BOMBS[bomb])  # nothing is made of it
        else:
            with pytest.raises(BadPickleError):
                restricted_pickle.loads(BOMBS[bomb])
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


NESTED_KEYS = {
    "2**60 leaves": b"q\x00h\x00\x86" * 60,
    "2**60 leaves, memoized after a BUILD": b"Nbq\x00h\x00\x86" * 60,
    "2**60 leaves, memoized after an APPENDS": b"(eq\x00h\x00\x86" * 60,
    "100,000 deep": b"\x85" * 99_000,
}


@pytest.mark.parametrize("key", NESTED_KEYS)
def test_a_nested_key_is_refused_before_it_is_hashed(key):
    with pytest.raises(BadPickleError, match=r"twice|more than 100 tuples"):
        restricted_pickle.loads(b"\x80\x02})" + NESTED_KEYS[key] + b"Ns.")


@pytest.mark.parametrize("name", restricted_pickle._NAMES)
@pytest.mark.parametrize("state", [b"}X\x05\x00\x00\x00_callNs", b"N}X\x05\x00\x00\x00_callNs\x86"])
def test_a_file_cannot_change_what_stands_for_a_name(name, state):
    module, _, attribute = name.rpartition(".")
    with pytest.raises(BadPickleError, match="state for what is no array"):
        restricted_pickle.loads(
            f"\x80\x02c{module}\n{attribute}\n".encode("latin1") + state + b"b."
        )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02\x85.",
        b"\x80\x02(e.",
        b"\x80\x02Ne.",
        b"\x80\x02h\x07.",
        b"\x80\x02]b.",
        b"\x80\x02](K\x01ub.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02NNR.",
        b"\x80\x02cnumpy\ndtype\n)R.",
        b"\x80\x02cnumpy\ndtype\nN\x85R.",
        b"\x80\x02c_codecs\nencode\nN\x85R.",
        b"\x80\x02cnumpy\ndtype\n(]X\x01\x00\x00\x00aatR.",
        b"\x80\x02X\x01\x00\x00\x00\xff.",
        b"\x80\x02c" + b"a" * 1000,
        b"\x80\x02\xff.",
        b"\x80\x04NN\x93.",
        b"(lp0\n.",
        b"\x1f\x8b\x08\x00",
        b"<html>not found</html>",
    ],
)
def test_malformed_pickles_end_in_one_kind_of_error(data):
    with pytest.raises(BadPickleError) as caught:
        restricted_pickle.loads(data)
    assert len(str(caught.value).splitlines()) == 1


def test_no_mutilation_of_a_batch_escapes_as_another_error():
    images, labels = random_batch(1)
    whole = python2_batch(images, labels)
    random = np.random.RandomState(0)
    head = len(whole) - images.nbytes
    survived = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            data[random.randint(head)] = random.randint(256)
        try:
            restricted_pickle.loads(bytes(data))
            survived += 1
        except BadPickleError:
            pass
    assert 0 < survived < 3000


@pytest.mark.parametrize("end", [1, 10, 60, 200, 1000, -1, -5, -40])
def test_truncation_is_called_truncation(end):
    images, labels = random_batch(3)
    with pytest.raises(BadPickleError, match="not a well-formed"):
        restricted_pickle.loads(python2_batch(images, labels)[:end])


def test_reading_takes_three_times_the_file():
    images, _ = random_batch(100)
    data = b"\x80\x02}U\x04data" + python2_array(images) + b"s."
    tracemalloc.start()
    try:
        array = restricted_pickle.loads(data)["data"]
        assert tracemalloc.get_traced_memory()[1] < 2.2 * images.nbytes  # beside the file itself
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(as_numpy(array), images)
