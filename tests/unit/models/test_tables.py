"""Profiles, prices, ledger, authentication, addresses."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from swarmrun.api.swarmclass import Auth, ModelTier, Prices, ProfileOverrides
from swarmrun.errors import InvalidResource, PermissionDenied
from swarmrun.models.auth import key_source
from swarmrun.models.client import base_url, client_for
from swarmrun.models.ledger import by_tier, cache_hit_share, cost, record, require_prices, total
from swarmrun.models.prices import list_price
from swarmrun.models.profiles import profile_for
from swarmrun.ports import Profile, Usage


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-5-mini", ("responses", "encrypted", "strict", "apply_patch")),
        ("openai/GPT-5.4", ("responses", "encrypted", "strict", "apply_patch")),
        ("gpt-5-chat-latest", ("chat", "none", "strict", "edit_file")),
        ("o4-mini", ("responses", "encrypted", "strict", "edit_file")),
        ("gpt-4.1", ("chat", "none", "strict", "edit_file")),
        ("gpt-oss:20b", ("chat", "reasoning_content", "object", "edit_file")),
        ("deepseek-reasoner", ("chat", "reasoning_content", "object", "edit_file")),
        ("deepseek-r1:8b", ("chat", "none", "object", "edit_file")),
        ("moonshotai/kimi-k2", ("chat", "reasoning_content", "object", "edit_file")),
        ("Qwen/Qwen3-Coder", ("chat", "reasoning_content", "object", "edit_file")),
        ("qwen2.5-coder:7b", ("chat", "none", "object", "edit_file")),
        ("claude-sonnet-4-5", ("chat", "none", "none", "edit_file")),
        ("anthropic/claude-opus-5", ("chat", "reasoning_details", "object", "edit_file")),
        ("llama3.2", ("chat", "none", "object", "edit_file")),
    ],
)
def test_a_model_s_name_tells_how_it_wants_to_be_talked_to(model, expected):
    p = profile_for(model)
    assert (p.api, p.reasoning_replay, p.json_schema, p.edit_tool) == expected
    assert p.max_output < p.context_window


def test_overrides_win_and_unknown_fields_are_named_with_the_nearest():
    overrides = ProfileOverrides(api="chat", temperature="0.2", context_window=9000)
    p = profile_for("gpt-5", overrides, Prices(input="1", output="2"))
    assert (p.api, p.temperature, p.context_window) == ("chat", 0.2, 9000)
    assert p.reasoning_replay == "none", "encrypted reasoning does not exist on chat"
    assert (p.price_input, p.price_cached) == ("1", None)
    with pytest.raises(InvalidResource, match="context_window"):
        profile_for("gpt-5", {"contextwindow": 1})
    with pytest.raises(InvalidResource, match="encrypted"):
        profile_for("llama", {"reasoning_replay": "encrypted"})


def test_prices_are_those_of_the_family_or_unknown():
    assert list_price("gpt-5-mini-2025-08-07") == list_price("openai/gpt-5-mini") != list_price("gpt-5")
    assert list_price("gpt-5-pro") is None
    assert list_price("llama3") is None


GPT = profile_for("gpt-5-mini")


def test_cached_tokens_cost_less_and_output_more():
    assert cost(Usage(input=1_000_000), GPT) == Decimal("0.25")
    assert cost(Usage(input=1_000_000, cached=1_000_000), GPT) == Decimal("0.025")
    assert cost(Usage(output=1_000_000), GPT) == Decimal("2")
    assert cost(Usage(input=10, cached=20), GPT) == Decimal("0.000000"), (
        "more cached than input is not negative"
    )


def test_an_unknown_price_is_an_error_only_under_a_cap():
    local = Profile(model="local")
    assert cost(Usage(input=5), local) is None
    require_prices(GPT, "standard")
    with pytest.raises(InvalidResource, match=r"local.*prices"):
        require_prices(local, "standard")


def test_sums_by_tier_know_what_they_do_not_know():
    records = [
        record(Usage(input=1000, cached=600, output=50), GPT, "standard"),
        record(Usage(input=1000, cached=200, output=50), GPT, "standard"),
        record(Usage(input=10), Profile(model="local"), "light"),
    ]
    standard, light = by_tier(records)
    assert (standard.calls, standard.input, standard.cached, standard.output) == (2, 2000, 800, 100)
    assert Decimal(standard.cost) == sum(Decimal(r.cost) for r in records[:2])
    assert light.cost is None
    assert total(records).cost is None
    assert round(cache_hit_share(records), 3) == 0.398
    assert cache_hit_share([]) == 0


# ---------------------------------------------------------------- authentication, addresses


def key_of(tier: ModelTier) -> str | None:
    source = key_source(tier)
    return None if source is None else asyncio.run(source())  # type: ignore[arg-type]


def tier(**changes) -> ModelTier:
    return ModelTier(**{"model": "m", "endpoint": "http://127.0.0.1:1", **changes})


def test_a_key_comes_from_the_named_variable_or_file_and_is_read_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", " one ")
    assert key_of(tier(auth=Auth(env="MY_KEY"))) == "one"
    file = tmp_path / "key"
    file.write_text("two\n")
    named = tier(auth=Auth(file=str(file)))
    assert key_of(named) == "two"
    file.write_text("three")
    assert key_of(named) == "three"
    assert key_of(tier(auth=Auth(type="none"))) is None


def test_a_missing_key_says_where_it_was_looked_for(monkeypatch, tmp_path):
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PermissionDenied, match="OPENAI_API_KEY"):
        key_of(tier(provider="openai"))
    with pytest.raises(PermissionDenied, match="AZURE_OPENAI_API_KEY"):
        key_of(tier(provider="azure-openai"))
    with pytest.raises(PermissionDenied, match="nowhere"):
        key_of(tier(auth=Auth(file=str(tmp_path / "nowhere"))))
    assert key_of(tier()) == "", "a server on one's own machine may want none"


def test_a_missing_key_fails_the_turn_before_anything_is_sent(server, monkeypatch, ask):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    client = client_for(tier(provider="openai", endpoint=server.url))

    async def go():
        try:
            await client.turn(ask.request())
        finally:
            await client.close()

    with pytest.raises(PermissionDenied, match="OPENAI_API_KEY"):
        asyncio.run(go())
    assert server.seen == []


def test_the_key_travels_as_a_bearer_token(server, monkeypatch, ask):
    monkeypatch.setenv("MY_KEY", "k-123")
    client = client_for(tier(endpoint=server.url, auth=Auth(env="MY_KEY")))
    server.play(server.says(text="hi"))

    async def go():
        await client.turn(ask.request())
        await client.close()

    asyncio.run(go())
    assert server.headers[0]["authorization"] == "Bearer k-123"


@pytest.mark.parametrize(
    ("provider", "endpoint", "url"),
    [
        ("openai", "", "https://api.openai.com/v1"),
        ("azure-openai", "https://x.openai.azure.com", "https://x.openai.azure.com/openai/v1"),
        ("azure-openai", "https://x.openai.azure.com/openai/v1/", "https://x.openai.azure.com/openai/v1"),
        ("compatible", "https://x.openai.azure.com/", "https://x.openai.azure.com/openai/v1"),
        ("compatible", "http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("compatible", "http://127.0.0.1:8000/api/v3", "http://127.0.0.1:8000/api/v3"),
    ],
)
def test_a_bare_address_gets_the_path_it_means(provider, endpoint, url):
    assert base_url(tier(provider=provider, endpoint=endpoint)) == url


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:8000", "ftp://x/v1", "http://"])
def test_an_endpoint_that_is_none_is_refused(endpoint):
    with pytest.raises(InvalidResource):
        base_url(tier(endpoint=endpoint))
