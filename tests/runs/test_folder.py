from pathlib import Path

import pytest

from alexnet_tf1.errors import UserError
from alexnet_tf1.runs import folder as runs


def test_a_run_is_named_by_its_folder_or_by_the_config_in_it(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    for name in (tmp_path, tmp_path / "config.json"):
        assert runs.open_run(str(name)).folder == tmp_path
    monkeypatch.chdir(tmp_path)
    for name in (".", "config.json"):
        assert runs.open_run(name).folder == Path()


def test_a_folder_called_config_json_may_be_a_run(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UserError, match="is not a run folder"):
        runs.open_run(str(tmp_path))
    (tmp_path / "config.json/config.json").write_text("{}")
    assert runs.open_run(str(tmp_path / "config.json")).folder == tmp_path / "config.json"
