"""Records by name, and verdicts as a text."""

import json

import pytest

from helper.recorded import as_digits, is_verdicts, load_recorded, share_right


def test_a_record_by_name_and_by_path(tmp_path):
    assert load_recorded("pretraining_text")["kinds"]
    (tmp_path / "mine.json").write_text(json.dumps({"runs": []}))
    assert load_recorded(tmp_path / "mine.json") == {"runs": []}


def test_a_missing_record_says_what_makes_it():
    with pytest.raises(FileNotFoundError, match=r"nothing\.json .*`make record` makes it"):
        load_recorded("nothing")
    with pytest.raises(FileNotFoundError, match="`make x` makes it"):
        load_recorded("nothing", "`make x`")


def test_verdicts_as_a_text():
    assert as_digits([True, False, 1, 0]) == "1010" and as_digits([]) == ""
    assert share_right("1000") == 0.25


def test_what_is_a_verdict():
    assert is_verdicts("0110") and not is_verdicts("sigmoid") and not is_verdicts(1) and not is_verdicts("")
