"""Placebos: neutral system prompts of a given length, against which a split is measured.

Any two different prompts make a model behave differently. So what a mode's prompt does is set
beside what prompts of equal length do that ask for nothing. The sentences are psplit's own: they
say nothing of originality, variety, correctness, length, wording or layout of an answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import cycle, islice

from psplit_eval.errors import UsageError

__all__ = ["placebo_prompts"]

_TEXTS = (
    # a plain assistant
    "You are a helpful assistant. You talk with people who use this service, and you reply to what "
    "they write. A person writes a message, and you write a message back. People come here with "
    "many kinds of requests. Some ask a question, some bring a task, and some would like to talk "
    "about a subject. You read the message and you respond to it. The person can then write "
    "again, and you respond again. What was said before in the same talk can be seen by both "
    "sides. You are there for everybody who uses the service. The people who write to you may be "
    "at home, at school or at work. They may write in the morning, during the day or in the "
    "evening. When a person says hello, you may say hello, too. When a person says goodbye, the "
    "talk is over. A new talk begins with a new first message. You are the assistant in each of "
    "these talks. Your part is to help the person with what the message asks for. The person's "
    "part is to say what help is wanted. There is one person and one assistant in each talk.",
    # rules of the house
    "Messages on this site follow the rules of the house. Each user has one account and signs in "
    "with a name and a password. Accounts belong to the people who opened them and are not passed "
    "on. A user may leave at any time and may come back later. Files that are sent to the site "
    "are kept for thirty days and are then removed. The site does not sell names or addresses to "
    "other firms. Users can look at their own talks on the page called History. They can delete a "
    "talk there with the button at the bottom of the page. A user who has lost a password can ask "
    "for a new one by mail. The site is closed for repairs on the first Sunday of the month. "
    "During repairs a notice is shown on the front page. Users who are under sixteen need the "
    "consent of a parent. Questions about an account go to the front office. Questions about a "
    "bill go to the accounts office. The rules of the house were last changed in March. They "
    "apply to all users of the site, old and new. A copy of them hangs in the hall.",
    # the service and its hours
    "This service is run by a public library. The library is in the middle of the town, beside "
    "the post office. It is open from Monday to Friday between nine and six. On Saturday it is "
    "open between ten and two, and on Sunday it is closed. The reading room is on the first floor "
    "and has forty seats. Books can be taken home for four weeks with a library card. A card is "
    "free for people who live in the town. Visitors from other towns pay a fee of ten euros a "
    "year. Newspapers are kept on the ground floor, next to the entrance. There is a lift at the "
    "back of the building. Bicycles can be left in the yard. The bus stops in front of the door "
    "every twenty minutes. Lines two and five go to the railway station. There is a small "
    "kitchen with tea and coffee in the basement. The library has eleven people on its staff. "
    "It was opened in the sixties and got a new roof some years ago. The service can be "
    "used on the computers in the reading room and from home.",
    # the machine
    "Requests reach this program over the network. The program runs on a computer in a data "
    "centre in the north of the country. The computer was put in place two years ago and is "
    "looked after by a team of four. A second computer stands beside it and takes over when the "
    "first one is switched off. Power comes from the public grid. In the cellar there is a "
    "generator with fuel for two days. The room is kept at twenty degrees by fans in the ceiling. "
    "A record of each request is kept with its date and the time of day. Records are copied to "
    "another building at midnight. The network has two lines, one from the east and one from the "
    "west. Updates of the system are put in on Tuesday evenings. The team meets on Wednesday in "
    "the room next door. Spare parts are stored on the shelf by the window. The door is opened "
    "with a card and a number of six digits. A guard walks through the building at ten and at "
    "four. The program starts by itself when the computer is switched on. Its user name on the "
    "computer is service.",
    # a place
    "Our office is in a town on a river. The town has about thirty thousand people and lies an "
    "hour by train from the coast. There is a market in the square on Thursday and on Saturday. "
    "Farmers from the villages around it bring apples, cheese and bread. The river is crossed by "
    "three bridges, two for cars and one for people on foot. North of the town there are woods, "
    "and south of it there are fields. The town hall was built of red brick and has a clock on "
    "its west side. There are four schools, a hospital and a swimming pool. In winter the hills "
    "are often under snow, and in summer people sit by the water. The railway station is at the "
    "end of the main street. Trains leave for the coast at ten past the hour. A path beside the "
    "river leads to the next village. On the way it passes an old mill and a row of gardens. The "
    "fire station has been in the same street for eighty years. The office has its windows on the "
    "square. It is on the second floor, above a baker.",
    # what users have before them
    "People who use this chat see a window with two parts. The upper part shows the messages of "
    "the talk, and the lower part has a box to type in. A button at the right of the box sends "
    "the message. The name of the user stands in the corner at the top. Beside it there is a menu "
    "with settings. In the settings a user can choose the language of the menus and the colour of "
    "the window. The window can be blue, green or grey. A list at the left shows the talks of the "
    "last weeks, by date. A talk is opened by a click on its line. The list can be hidden with "
    "a key. On a phone the list is below the window. The chat works in common browsers and "
    "needs no other program. It was first offered in spring and has been open to the public since "
    "autumn. The company behind it has offices in two cities. Its address and its telephone "
    "number are on the page called Contact. The page has a map, too. The support desk can be "
    "reached from eight to five on working days.",
)
_FOLLOWED = ".,;:!?"


def placebo_prompts(length: int, count: Callable[[str], int], number: int = 3) -> list[str]:
    """`number` neutral system prompts, each as near to `length` tokens as whole words allow.

    `count` gives the tokens of a text by the checkpoint's tokenizer, without special tokens; a
    text with more words has to have no fewer. Each prompt is of another kind (a plain assistant,
    rules of the house, a service and its hours, …), is cut in its last sentence where it has to
    be, and ends with a full stop. Beyond its last sentence a text begins again. The shortest is a
    sentence of one word, however small `length` is. The same arguments give the same prompts;
    those of a smaller `number` come first. Raises UsageError for a `length` or `number` below 1, a
    `number` beyond what there is, or a `count` that does not grow with the text.
    """
    if length < 1:
        raise UsageError(f"placebo of {length} tokens: expected 1 or more")
    if not 1 <= number <= len(_TEXTS):
        raise UsageError(
            f"{number} placebos: expected 1 to {len(_TEXTS)}, since each is of another kind"
        )
    return [_cut(text.split(), length, count) for text in _TEXTS[:number]]


def _cut(words: list[str], length: int, count: Callable[[str], int]) -> str:
    def tokens(number: int) -> int:
        return count(_sentence(words, number))

    # even a tokenizer that joins words into one token has one for every few of them
    enough = 8 * length + 8
    if tokens(enough) < length:
        raise UsageError(
            f"placebo of {length} tokens: {enough} words count as {tokens(enough)}; "
            "expected a count of tokens"
        )
    above = bisect_left(range(enough), length, lo=1, key=tokens)
    best = min((max(1, above - 1), above), key=lambda number: abs(tokens(number) - length))
    return _sentence(words, best)


def _sentence(words: list[str], number: int) -> str:
    """The first words of the text, over and over, and a full stop."""
    return " ".join(islice(cycle(words), number)).rstrip(_FOLLOWED) + "."
