"""TF_CONFIG: what is read from it, and what is refused in one line. No worker is started."""

import json
import os
import socket

import pytest

from alexnet_tf1.cli import main as cli
from alexnet_tf1.distributed import cluster, launch, packet_filter
from alexnet_tf1.distributed.replicas import Team
from alexnet_tf1.errors import UserError

TWO = ["127.0.0.1:2222", "127.0.0.1:2223"]


def written(workers=TWO, task=("worker", 0), **jobs):
    kind, index = task
    return json.dumps(
        {"cluster": {"worker": workers, **jobs}, "task": {"type": kind, "index": index}}
    )


def read(text):
    return cluster.from_environment({"TF_CONFIG": text})


def test_the_workers_and_which_of_them_this_is():
    found = read(written(task=("worker", 1)))
    assert found == cluster.Cluster(tuple(TWO), 1)
    assert not found.is_chief
    assert found.name(1) == "worker 1 (127.0.0.1:2223)"
    assert read(written()).is_chief


def test_a_chief_of_its_own_comes_first():
    found = read(written(task=("worker", 1), chief=["c.example:1"]))
    assert found == cluster.Cluster(("c.example:1", *TWO), 2, has_chief=True)
    assert [found.name(task) for task in (0, 2)] == ["chief (c.example:1)", f"worker 1 ({TWO[1]})"]
    assert read(written(task=("chief", 0), chief=["c.example:1"])).is_chief


@pytest.mark.parametrize("text", [None, "{}", written(TWO[:1]), '{"environment": "cloud"}'])
def test_no_cluster_or_one_worker_is_ordinary_training(text):
    assert cluster.from_environment({} if text is None else {"TF_CONFIG": text}) is None


@pytest.mark.parametrize("address", ["[::1]:2221", "node-7.cluster.local:65535", "10.0.0.1:1"])
def test_addresses(address):
    assert read(written([address, *TWO])).addresses[0] == address


BAD = {
    "": "not JSON",
    "worker": "not JSON",
    "{'cluster': {}}": "not JSON",
    "[" * 100_000: "not JSON",
    "[]": "not a JSON object",
    "3": "not a JSON object",
    '{"cluster": {"worker": ["a:1", "b:2"]}}': "no task",
    '{"task": {"type": "worker", "index": 0}}': "no cluster",
    '{"cluster": ["a:1", "b:2"], "task": {"type": "worker", "index": 0}}': "no cluster",
    written([]): "names no worker",
    written("a:1"): "cluster.worker is not a list",
    written({"0": "a:1"}): "cluster.worker is not a list",
    written(ps=["a:1"]): "cluster.ps",
    written(evaluator=["a:1"]): "cluster.evaluator",
    written(chief=["a:1", "b:1"]): "2 addresses",
    written([TWO[0], TWO[0]]): "127.0.0.1:2222 is there twice",
    written(["A:1", "a:1"]): "a:1 is there twice",
    written(chief=[TWO[1]]): "127.0.0.1:2223 is there twice",
    written(task=("master", 0)): "task.type 'master'",
    written(task=("chief", 0)): "task.type 'chief'",
    written(task=(None, 0)): "task.type None",
    written(task=(["worker"], 0)): "task.type ['worker']",
    written(task=("worker", 2)): "task.index 2",
    written(task=("worker", -1)): "task.index -1",
    written(task=("worker", "0")): "task.index '0'",
    written(task=("worker", True)): "task.index True",
    written(task=("worker", None)): "task.index None",
    **{
        written([address, "b:2"]): "cluster.worker[0]"
        for address in ("a", "a:", ":1", "a:0", "a:65536", "a:x", "a b:1", "http://a:1", "::1:1")
    },
    **{written([address, "b:2"]): "cluster.worker[0]" for address in (3, None, ["a:1"], "a:1\n")},
}  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=[text[:60] for text in BAD])
def test_a_wrong_tf_config_is_one_line(text, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TF_CONFIG", text)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--dataset", "synthetic"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    (line,) = error.splitlines()
    assert line.startswith("error: TF_CONFIG")
    assert BAD[text] in line
    assert list(tmp_path.iterdir()) == []


def team(workers, task=0, devices=1):
    return Team(cluster.Cluster(("a:1",) * workers, task), devices)


def test_the_parts_of_a_batch():
    assert [team(4, t).part(20) for t in (0, 3)] == [slice(0, 5), slice(15, 20)]
    assert team(3, 1, devices=2).part(24) == slice(8, 16)


@pytest.mark.parametrize(("size", "replicas", "near"), [(20, 3, "18 or 21"), (3, 4, "use 4")])
def test_an_uneven_split_is_refused(size, replicas, near):
    with pytest.raises(UserError, match=f"--batch-size {size} .* {replicas} .*{near}"):
        team(replicas).part(size)


def test_an_uneven_split_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "--dataset", "synthetic", "--devices", "3"]) == 2
    assert "--batch-size 20 does not split evenly over 3" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_refused(tmp_path, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("TF_CONFIG", written([address, TWO[1]]))
        options = ["--dataset", "synthetic", "--run-dir", str(tmp_path / "new" / "run")]
        assert cli.main(["train", *options]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: TF_CONFIG: worker 0 ({address}) cannot listen")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="Linux only")
def test_a_server_hears_only_its_address():
    """The server of TensorFlow binds to every address; this is such a socket."""

    def listens(address):
        with socket.socket() as server:
            server.bind(("0.0.0.0", 0))
            server.listen()
            port = server.getsockname()[1]
            assert packet_filter.restrict(f"{address}:{port}") == (address == "127.0.0.1")
            heard = []
            for host in ("127.0.0.1", "127.0.0.2"):
                with socket.socket() as client:
                    client.settimeout(0.3)
                    heard.append(client.connect_ex((host, port)) == 0)
            return heard

    assert listens("127.0.0.1") == [True, False]
    assert listens("192.0.2.1") == [True, True]  # no address of this machine
    assert listens("localhost") == [True, True]  # a name


@pytest.mark.parametrize("command", [[], ["--"], ["--", "evaluate", "run"], ["fly"]])
def test_launch_trains_only(command, capsys):
    assert cli.main(["launch", "--workers", "2", *command]) == 2
    assert "launch --workers N -- train" in capsys.readouterr().err


def test_local_workers_have_addresses_and_cores_of_their_own(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    addresses = launch.free_addresses(3)
    assert len(set(addresses)) == 3
    environment = launch.environment_of(1, addresses)
    found = cluster.from_environment(environment)
    assert found == cluster.Cluster(tuple(addresses), 1)
    assert environment["TF_NUM_INTRAOP_THREADS"] == "2"
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "8")  # as in terminals, whose run is repeated
    assert launch.environment_of(1, addresses)["TF_NUM_INTRAOP_THREADS"] == "8"


@pytest.mark.parametrize("other", ["localhost:2222", "127.0.0.01:2222", "[::1]:2222", TWO[0]])
def test_one_address_in_two_spellings_is_refused(other):
    with pytest.raises(UserError, match=r"TF_CONFIG: the address .* is there twice"):
        read(written([TWO[0], other]))


@pytest.mark.parametrize(("job", "said"), [("local", "another server"), ("worker", "not agree")])
def test_another_server_at_a_worker_s_address_is_not_waited_for(job, said):
    """One of another program, and one of another cluster, which even has this worker's name."""
    import tensorflow.compat.v1 as tf

    from alexnet_tf1.distributed import handshake
    from alexnet_tf1.distributed.heartbeat import Peers

    first, second, elsewhere = launch.free_addresses(3)
    tasks = [second] if job == "local" else [elsewhere, second]
    stranger = tf.train.Server(
        tf.train.ClusterSpec({job: tasks}), job_name=job, task_index=len(tasks) - 1
    )

    def agree():
        with Peers(cluster.Cluster((first, second), 0), 1, 1.0) as peers:
            peers.wait()
            handshake.tell(peers, {})

    with pytest.raises(UserError, match=said):
        agree()
    del stranger
