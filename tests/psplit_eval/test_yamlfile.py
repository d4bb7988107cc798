"""Values out of YAML: whatever the file holds, a value or a complaint that names its line."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from psplit_eval.errors import DataError, InfrastructureError
from psplit_eval.yamlfile import YamlReader, composed, shown_node


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "f.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"a: 1\nb: \xff\n", 2, "expected UTF-8"),
        ("a: 1\n\nb: \x00\n", 3, "U+0000, expected text"),
        ("a: 1\nb: [1, 2\n", 3, "expected ',' or ']'"),
        ("a: 1\n  b: 2\n", 2, "mapping values are not allowed here"),
        ("a: *nowhere\n", 1, "found undefined alias"),
        ("a: 1\n---\na: 2\n", 2, "but found another document"),
        ("\ta: 1\n", 1, "cannot start any token"),
        ("[" * 9_000, 1, "no YAML"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line(written, content, line, said):
    path = written(content)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        composed(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert "\n" not in str(caught.value)


def test_nothing_is_none(written):
    assert composed(written("")) is None
    assert composed(written("# only this\n")) is None


def test_a_file_that_cannot_be_read_is_the_machines_fault(tmp_path):
    with pytest.raises(InfrastructureError):
        composed(tmp_path / "none.yaml")


def node(content):
    return yaml.compose(content, yaml.SafeLoader)


@pytest.fixture
def reader(tmp_path):
    return YamlReader(tmp_path / "f.yaml")


def test_values_come_as_they_are_meant(reader):
    assert reader.text(node("'  seven words '"), "t") == "seven words"
    assert reader.text(node("1.0"), "t") == "1.0"
    assert reader.number(node("-2.5e-1"), "n", -1, 1) == -0.25
    assert reader.number(node("'.5'"), "n", 0, 1) == 0.5
    assert reader.whole(node("+7"), "w", 0, 9) == 7
    assert [reader.flag(node(word), "f") for word in ("yes", "False", "on")] == [True, False, True]
    assert reader.one_of(node("b"), "o", "abc") == "b"
    assert [n.value for n in reader.items(node("[x, y]"), "a list")] == ["x", "y"]
    assert {name: value.value for name, (_, value) in reader.mapping(node("{a: 1}"), "m").items()}


@pytest.mark.parametrize(
    ("ask", "content", "said"),
    [
        (lambda r, n: r.mapping(n, "rules"), "[1]", "a list, expected rules"),
        (lambda r, n: r.mapping(n, "rules"), "{a: 1, a: 2}", "'a' a second time"),
        (lambda r, n: r.mapping(n, "rules"), "{[a]: 1}", "a list as a name"),
        (lambda r, n: r.items(n, "a list"), "[]", "an empty list, expected a list"),
        (lambda r, n: r.items(n, "a list of x"), "word", "'word', expected a list of x"),
        (lambda r, n: r.text(n, "name"), "' '", "name '', expected a text"),
        (lambda r, n: r.text(n, "name"), "~", "name '~', expected a text"),
        (lambda r, n: r.text(n, "name"), "{a: b}", "name a mapping, expected a text"),
        (lambda r, n: r.one_of(n, "kind", ("x", "y")), "z", "kind 'z', expected one of x, y"),
        (lambda r, n: r.number(n, "n", 0, 1), "1.01", "n: '1.01', expected a number from 0 to 1"),
        (lambda r, n: r.number(n, "n", 0, 1), ".nan", "n: '.nan', expected a number"),
        (lambda r, n: r.number(n, "n", 0, 9), "1e999", "n: '1e999', expected a number"),
        (lambda r, n: r.number(n, "n", 0, 1), "2 %", "n: '2 %', expected a number"),
        (lambda r, n: r.whole(n, "w", 1, 1), "1.0", "w: '1.0', expected a whole number"),
        (lambda r, n: r.whole(n, "w", 1, 1), "9" * 99, "…', expected a whole number"),
        (lambda r, n: r.flag(n, "f"), "1", "f '1', expected true or false"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(reader, ask, content, said):
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        ask(reader, node(f"\n\n{content}"))
    assert ", line 3: " in str(caught.value)
    assert str(caught.value).endswith("; correct it")


def test_what_is_shown_is_short_and_one_line():
    assert shown_node(node('"a\\n\\x07b"')) == "'a ?b'"
    assert len(shown_node(node("x" * 500))) == 42


def outcome(path):
    """'read', or what is complained of."""
    try:
        found = composed(path)
    except DataError as error:
        return str(error)
    assert found is None or isinstance(found, yaml.Node)
    return "read"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_any_text_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("wild") / "f.yaml"
    path.write_text(content, encoding="utf-8", newline="")
    assert re.search(r"^read$|, line [1-9]", outcome(path))


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("wild") / "f.yaml"
    path.write_bytes(content)
    assert re.search(r"^read$|, line [1-9]", outcome(path))
