"""Guard over what stands inside functions: code that both sides relied on and that is gone."""

from __future__ import annotations

from collections.abc import Iterator

from swarmrun.merging.guards.finding import Finding, Versions

_LEAST = 3
"""Bodies with fewer lines of code are left to the stub guard."""
_SHARE = 0.6
"""A body that kept less than this share of what had to stay has shrunk. Measured: see bench."""


def shrunk(v: Versions) -> Iterator[Finding]:
    ours, theirs, result = (v.symbols(d) for d in (v.ours, v.theirs, v.result))
    for name, symbol in result.items():
        if symbol.kind not in ("function", "method"):
            continue
        sides = [s[name] for s in (ours, theirs) if name in s]
        if not sides:
            continue
        smallest = min(s.body_size for s in sides)
        if smallest >= _LEAST and symbol.body_size < _SHARE * smallest:
            yield Finding(
                v.path,
                "body-shrunk",
                f"{v.path}:{symbol.lines[0]}: the body of `{name}` has {symbol.body_size} lines of code, "
                f"but at least {smallest} in both sides. Put the lost code back.",
                "hard",
                symbol.lines[0],
            )
