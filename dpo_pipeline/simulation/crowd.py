"""Many simulated people at once: they compare, vote, chat and rate, at the pace they are given."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Sequence

import httpx

from dpo_pipeline.core.questions import Question
from dpo_pipeline.in_words import kind_of_fault
from dpo_pipeline.simulation.people import Person, choose, make_person, rate

VOTERS, CHATTERS = 600, 2000


class Crowd:
    """People in a thread of their own.

    `urls` are those of the servers; each call goes to any of them. `key` vouches for these people; without one their
    votes are those of strangers. `pace` is actions a second of all together and may be changed at any time; 0 is a
    break. `votes`, `chats`, `ratings` and `troubles` count what they did and what they met.
    """

    def __init__(
        self,
        urls: Sequence[str],
        bank: Sequence[Question],
        pace: float = 4.0,
        seed: int = 0,
        chat_share: float = 0.5,
        key: str = "",
    ):
        self._urls = list(urls)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.pace = pace
        self.chat_share = chat_share
        self.votes = self.chats = self.ratings = 0
        self.troubles: Counter[str] = Counter()
        self._by_text = {question.question: question for question in bank}
        self._bank = list(bank)
        self._draw = random.Random(seed)
        self._voters = [make_person(f"voter-{i}", seed) for i in range(VOTERS)]
        self._chatters = [make_person(f"chatter-{i}", seed) for i in range(CHATTERS)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="crowd", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=60)

    def wait(self) -> None:
        """Until somebody calls `stop`."""
        while not self._stop.wait(1.0):
            pass

    async def _live(self) -> None:
        doing: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(headers=self._headers, timeout=90) as client:
            while not self._stop.is_set():
                if self.pace <= 0 or len(doing) >= 16:
                    await asyncio.sleep(0.1)
                else:
                    wants_chat = self._draw.random() < self.chat_share
                    action = self._chat(client) if wants_chat else self._vote(client)
                    doing.add(asyncio.create_task(self._try(action)))
                    await asyncio.sleep(self._draw.expovariate(self.pace))
                doing = {task for task in doing if not task.done()}
            for task in doing:
                task.cancel()

    def _at(self, path: str) -> str:
        return (self._urls[0] if len(self._urls) == 1 else self._draw.choice(self._urls)) + path

    async def _try(self, action) -> None:  # type: ignore[no-untyped-def]
        """A person who meets trouble shrugs and comes back later; what it was is counted."""
        try:
            await action
        except httpx.HTTPStatusError as error:
            self.troubles[f"HTTP {error.response.status_code}"] += 1
            await asyncio.sleep(1.0)
        except httpx.HTTPError as error:
            self.troubles[kind_of_fault(error)] += 1
            await asyncio.sleep(1.0)

    async def _vote(self, client: httpx.AsyncClient) -> None:
        person = self._draw.choice(self._voters)
        who = {"annotator": person.name, "session_id": f"session-{person.name}", "source": "simulated"}
        # These people have an opinion on the questions of the bank only.
        shown = _json(await client.get(self._at("/v1/comparisons/next"), params=who | {"origin": "bank"}))
        question = self._by_text.get(shown["prompt"])
        if question is None:
            return
        answers = shown["answers"]
        vote = choose(person, question, answers["left"], answers["right"], self._draw)
        path = f"/v1/comparisons/{shown['comparison_id']}/vote"
        _json(await client.post(self._at(path), json={"token": shown["token"], "vote": vote}))
        self.votes += 1

    async def _chat(self, client: httpx.AsyncClient) -> None:
        person: Person = self._draw.choice(self._chatters)
        question = self._draw.choice(self._bank)
        body = {
            "model": "chat",
            "user": person.name,
            "source": "simulated",
            "messages": [{"role": "user", "content": question.question}],
        }
        answered = _json(await client.post(self._at("/v1/chat/completions"), json=body))
        self.chats += 1
        if self._draw.random() < 0.6:
            text = answered["choices"][0]["message"]["content"]
            rating = rate(person, question, text, self._draw)
            _json(await client.post(self._at("/v1/feedback"), json={"request_id": answered["id"], "rating": rating}))
            self.ratings += 1


def _json(response: httpx.Response) -> dict:
    response.raise_for_status()
    body: dict = response.json()
    return body
