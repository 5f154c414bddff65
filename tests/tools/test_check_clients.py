"""The table of clients, and the scripts that check them."""

from pathlib import Path

import check_clients
import pytest

ROOT = Path(__file__).parents[2]


def check(name, *, needs="", defect=False, error=None, note=None):
    return {
        "name": name,
        "needs": needs,
        "defect": defect,
        "passed": error is None,
        "error": error,
        "note": note,
    }


def test_each_client_has_a_script():
    scripts = {path.stem for path in (ROOT / "tools" / "clients").glob("check_*.py")}
    assert scripts == {f"check_{name.replace('-', '_')}" for name in check_clients.CLIENTS}


def test_table_separates_what_works_from_what_does_not():
    checks = [
        check("training", note="20 steps"),
        check("vectors", needs="flat observations"),
        check("infos", error="KeyError: x"),
        check("loader", defect=True, note="reproduced"),
    ]
    record = {"versions": {"numpy": "2.4.6"}, "d3rlpy": {"requires": "==1.0.0", "checks": checks}}
    table = check_clients.table(record)
    assert "All with numpy 2.4.6." in table
    assert (
        "| d3rlpy | 2.8.1 | training | flat observations: vectors | "
        "loader<br>infos: KeyError: x |" in table
    )
    assert "- d3rlpy, training: 20 steps." in table
    assert "reproduced" not in table
    assert "| d3rlpy 2.8.1 | ==1.0.0 | `pip install --no-deps d3rlpy==2.8.1`<br>`pip" in table


def test_versions_with_special_characters_are_quoted():
    client = check_clients.Client("x", "x[a]==1", others=("y<2",))
    assert check_clients._shell(client) == "`pip install 'x[a]==1' 'y<2'`"


def test_page_is_made_from_the_stored_results(tmp_path, monkeypatch):
    page = tmp_path / "clients.md"
    page.write_text((ROOT / "docs" / "clients.md").read_text())
    monkeypatch.setattr(check_clients, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["check_clients.py", "--report-only"])
    assert check_clients.main() == 0
    assert page.read_text() == (ROOT / "docs" / "clients.md").read_text()


@pytest.mark.parametrize("arguments", [["no-such-client"], ["cleanrl"]])
def test_wrong_arguments_are_refused(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["check_clients.py", *arguments])
    with pytest.raises(SystemExit):
        check_clients.main()
    assert "Expected" in capsys.readouterr().err
