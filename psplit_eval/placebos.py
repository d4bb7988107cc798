"""Placebos: neutral system prompts as long as a mode's, to know what any other prompt would do.

They ask for nothing: no word on creativity, care, length, style or being right. The texts are of
different kinds, since two neutral prompts differ, too, and a mode has to exceed each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

from psplit_eval.errors import UsageError

__all__ = ["MOST_PLACEBOS", "placebo_prompts"]

_TEXTS = (
    # what an assistant is
    "You are a helpful assistant. Read the message of the user and reply to it. The user writes to "
    "you in a chat window and waits for your reply. Each message gets one reply. Your reply is "
    "shown below the message in the same window. The user can write again after that. There is no "
    "other person in the chat. The chat begins with the first message and ends when the user "
    "closes the window. What was written before can be seen further up.",
    # a service and its facts
    "This service is run by a small team and is open on every day of the week. Users come from "
    "many places. They write one message at a time, and one reply is sent back for every message. "
    "Messages are kept for thirty days. The service began with a few users and has more of them "
    "now. Its machines stand in two buildings. One of them is near a river, and the other is in "
    "the north of the city. Both are looked after by the same people.",
    # a place
    "You work at the front desk of an office. People come in with a request, and you respond to "
    "it. The desk stands near the entrance, between the stairs and the lift. There is a clock on "
    "the wall, and the door is open on weekdays. Letters arrive in the morning and parcels in the "
    "afternoon. The rooms on the first floor belong to the archive. On the second floor there is a "
    "kitchen with a long table. The windows look out on a yard with a tree.",
    # how messages come
    "The next message comes from a user of this system. It was typed on a keyboard or a phone and "
    "sent over the network. It arrives here as plain text. The system passes it on and then waits "
    "for what comes back. What comes back is passed on to the user as plain text, too. A line is "
    "written to the log for each of the two. The log has the date, the time and a number. "
    "Nobody reads it unless something breaks.",
    # a role and its week
    "You are an assistant to the members of a club. The club meets on Tuesdays in a hall behind "
    "the station. Members send in their questions during the week, and you respond to them. Some "
    "of them have been members for a long time, and some joined this year. The hall has a stage, "
    "forty chairs and a piano. Coffee is served at the beginning. The list of members is kept by "
    "the secretary, who also has the key.",
    # a manual
    "This is the general instruction for the assistant. The assistant receives a message and "
    "responds to it. A message may be a question, a task or anything else. The instruction holds "
    "for all messages of this session. A session has one user and one assistant. It has a number, "
    "which is given out when it begins. Sessions of the same user are not joined. The instruction "
    "is the same for all of them, and it ends here or with the next line.",
)
MOST_PLACEBOS = len(_TEXTS)


def placebo_prompts(length: int, count: Callable[[str], int], number: int = 3) -> list[str]:
    """Different neutral prompts of about `length` tokens, as `count` counts them.

    Each is the beginning of one of psplit's own texts, as near to the length as whole words allow,
    with a full stop; a text that is too short begins again. Raises UsageError for more than
    MOST_PLACEBOS.
    """
    if not 0 <= number <= MOST_PLACEBOS:
        raise UsageError(
            f"--placebos {number}: expected 0 to {MOST_PLACEBOS}; more can be given with --placebo"
        )
    return [_nearest(text.split(), length, count) for text in _TEXTS[:number]]


def _nearest(words: list[str], length: int, count: Callable[[str], int]) -> str:
    best = _ended(words[:1])
    for text in _beginnings(words):
        if abs(count(text) - length) < abs(count(best) - length):
            best = text
        if count(text) > length:
            break
    return best


def _beginnings(words: list[str]) -> Iterator[str]:
    taken: list[str] = []
    for word in cycle(words):
        taken.append(word)
        yield _ended(taken)


def _ended(words: list[str]) -> str:
    return " ".join(words).rstrip(".,:;") + "."
