"""The question before something leaves or is withdrawn: only a written yes is one."""

import io

import pytest

from orthofed.client.asking import says_yes


@pytest.mark.parametrize("said", ["y\n", "Y\n", " yes \n", "YES\n", "y"])
def test_a_written_yes_is_a_yes(
    said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The question stands on stderr: what goes into a pipe is the result alone."""
    monkeypatch.setattr("sys.stdin", io.StringIO(said))

    assert says_yes("Send these bytes?")

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "Send these bytes? [y/N] "


@pytest.mark.parametrize("said", ["", "\n", "n\n", "no\n", "yess\n", "ye\n", "1\n", "n\ny\n"])
def test_anything_else_is_a_no(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the input too, and what is written behind the first line."""
    monkeypatch.setattr("sys.stdin", io.StringIO(said))

    assert not says_yes("Send these bytes?")
