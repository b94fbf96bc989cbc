"""Parts of the data path that need no socket."""

from __future__ import annotations

from guarded_streams import literal_rules
from hypothesis import given
from hypothesis import strategies as st

from tocsin.gateway.headers import for_upstream, key_of
from tocsin.gateway.input_check import texts
from tocsin.gateway.models import names
from tocsin.gateway.site import Route, Site, Tenant, Upstream
from tocsin.gateway.slicing import long, slices
from tocsin.gateway.threaded import Threaded
from tocsin.guarding.plan import Guard
from tocsin.limits import CHANNELS_MAX, SLICE_CHARS
from tocsin.model import Channel, Context, Document, Message, Token
from tocsin.stream.events import Done, Event, Wrote
from tocsin.testing import check_verifier

UPSTREAM = Upstream(name="u", url="http://127.0.0.1:1/v1", speaks=frozenset({"chat"}), key="k")
TEXT = Channel()


@given(st.lists(st.integers(0, 3 * SLICE_CHARS), max_size=4))
def test_slices_are_short_and_join_to_the_text(sizes: list[int]) -> None:
    events: list[Event] = [Wrote(channel=TEXT, text="x" * size) for size in sizes]
    cut = [event for event in slices(events) if isinstance(event, Wrote)]
    assert sum(sizes) == sum(len(event.text) for event in cut)
    assert all(len(event.text) <= SLICE_CHARS for event in cut)
    assert long(events) == any(size > SLICE_CHARS for size in sizes)


@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=12))
def test_slices_never_cut_a_token(sizes: list[int]) -> None:
    tokens = tuple(Token("x" * size, -1.0) for size in sizes)
    text = "".join(token.text for token in tokens)
    cut = list(slices([Wrote(channel=TEXT, text=text, tokens=tokens), Done()]))
    wrote = [event for event in cut if isinstance(event, Wrote)]
    assert isinstance(cut[-1], Done)
    assert tokens == tuple(token for event in wrote for token in event.tokens)
    assert all(event.text == "".join(t.text for t in event.tokens) for event in wrote)
    assert all(len(event.text) <= SLICE_CHARS for event in wrote)


def test_a_verifier_on_threads_is_the_same_verifier() -> None:
    check_verifier(Threaded(literal_rules()))


def test_all_texts_of_a_request_are_checked_in_few_channels() -> None:
    messages = tuple(Message(f"role{i % 40}", f"<{i}>") for i in range(5_000))
    context = Context(messages=messages, documents=(Document("d", "<passage>"),))
    found = texts(context)
    assert len(found) < CHANNELS_MAX
    assert found[-1] == ("document", "<passage>")
    joined = "\n\n".join(text for _, text in found)
    assert all(f"<{i}>" in joined for i in range(5_000))


def test_a_key_is_found_where_either_api_has_it() -> None:
    assert key_of({"Authorization": "bearer  a "}) == "a"
    assert key_of({"Authorization": "Basic a", "x-api-key": "b"}) == "b"
    assert key_of({"Authorization": "Bearer", "x-api-key": ""}) is None


def test_only_headers_of_a_known_shape_are_sent_on() -> None:
    told = {"openai-beta": "a\tb", "cookie": "c", "anthropic-beta": "d"}
    sent = for_upstream(UPSTREAM, "chat", told, stream=True)
    assert not {"openai-beta", "cookie", "anthropic-beta"} & set(sent)
    assert sent["authorization"] == "Bearer k"


def test_the_models_of_other_tenants_are_not_listed() -> None:
    routes = tuple(
        Route(name=n, models=(f"{n}-1", f"{n}-*"), upstream=UPSTREAM, model=None, guard=Guard())
        for n in ("a", "b")
    )
    site = Site(routes=routes)
    assert names(site, Tenant(name="t", keys=())) == ["a-1", "b-1"]
    assert names(site, Tenant(name="t", keys=(), routes=frozenset({"b"}))) == ["b-1"]
