"""How the page looks, on light paper and on dark."""

# Colours of methods and of a layer's linears; all are told apart by people who see no red or no green.
METHOD_COLOURS = {
    "rtn": "#8a94a6",
    "clip": "#b8860b",
    "awq": "#b04a8b",
    "gptq": "#2f6fdb",
    "awq+gptq": "#0f8f86",
}
OTHER_COLOUR = "#5b6b7f"
LINEAR_COLOURS = {"qkv": "#2f6fdb", "o": "#0f8f86", "gate_up": "#b8860b", "down": "#b04a8b"}

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --paper: #fff; --line: #e4e7ec; --card: #f6f8fb;
        --data: #2f6fdb; --bad: #c62828; --good: #1b7f4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --paper: #14181f; --line: #2b323d;
        --card: #1b2029; --data: #7aa2ff; --bad: #ff6b6b; --good: #4cc38a; } }
body { font: 15px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 960px;
       margin: 2.2rem auto 4rem; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; } h2 { margin: 2.6rem 0 .4rem; font-size: 1.25rem; }
p.lead { font-size: 1.1rem; margin: .2rem 0 1.2rem; } p { max-width: 75ch; } .soft { color: var(--soft); }
.cards { display: flex; flex-wrap: wrap; gap: .7rem; margin: 1.2rem 0; }
.card { flex: 1 1 130px; background: var(--card); border-radius: 8px; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; margin: .4rem 0; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums;
     white-space: nowrap; }
td.name { font-family: ui-monospace, monospace; font-size: .85em; overflow-wrap: anywhere; }
.bar { display: inline-block; height: .62em; border-radius: 2px; background: var(--data); min-width: 1px; }
.key { display: inline-flex; gap: 1.1rem; flex-wrap: wrap; color: var(--soft); font-size: .88rem; }
.key i { display: inline-block; width: .75em; height: .75em; border-radius: 50%; margin-right: .35em; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--soft); }
svg { width: 100%; height: auto; display: block; margin: .3rem 0; }
svg text { font-family: system-ui, sans-serif; }
"""
