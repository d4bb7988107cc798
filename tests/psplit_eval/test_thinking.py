"""A thought and its answer are told apart, whoever began the thought."""

import pytest

from psplit_eval.errors import UsageError
from psplit_eval.thinking import Thinking, Thought

TAGS = Thinking()


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("<think>\n3 + 4\n</think>\n\nIt is 7.", False, Thought("3 + 4", "It is 7.")),
        ("3 + 4\n</think>\n\nIt is 7.", True, Thought("3 + 4", "It is 7.")),
        ("<think>\n\n</think>\n\nIt is 7.", False, Thought(None, "It is 7.")),
        ("\n<think> 3 + 4 is", False, Thought("3 + 4 is", "", ended=False)),
        ("3 + 4 is", True, Thought("3 + 4 is", "", ended=False)),
        (" It is 7.", False, Thought(None, " It is 7.")),
        ("HTML has no </think> tag.", False, Thought(None, "HTML has no </think> tag.")),
        ("<think>a</think>b</think>c", False, Thought("a", "b</think>c")),
    ],
)
def test_a_response_is_taken_apart(text, opened, expected):
    assert TAGS.split(text, opened) == expected


def test_a_prompt_may_end_inside_a_thought():
    assert TAGS.opens("<|im_start|>assistant\n<think>\n")
    assert not TAGS.opens("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_the_command_line_says_whether_and_how():
    assert Thinking.parse("auto").arguments() == {}
    assert Thinking.parse("off").arguments() == {"enable_thinking": False}
    other = Thinking.parse("on", "[THINK],[/THINK]")
    assert other.arguments() == {"enable_thinking": True}
    assert other.split("[THINK]a[/THINK] b") == Thought("a", "b")


@pytest.mark.parametrize(("switch", "tags"), [("yes", None), ("on", "<think>"), ("on", ",x")])
def test_other_words_are_refused(switch, tags):
    with pytest.raises(UsageError, match="expected"):
        Thinking.parse(switch, tags)
