"""How the report looks, on paper and on screens that are light or dark."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --paper: #fff; --line: #e4e7ec; --data: #2f5fd0;
        --bad: #c62828; --good: #1b7f4b; --open: #a15c00; --card: #f6f7f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --paper: #14181f; --line: #2b323d;
        --data: #7aa2ff; --bad: #ff6b6b; --good: #4cc38a; --open: #f0a43a; --card: #1b212b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px;
       margin: 2rem auto; padding: 0 1rem; }
header { background: var(--card); border-radius: 12px; padding: 1.1rem 1.6rem; } header p { margin: .2rem 0; }
header ul { margin: .6rem 0; padding-left: 1.2rem; }
h1 { font-size: 2.6rem; line-height: 1.2; margin: 0; letter-spacing: .01em; }
h2 { margin: 2.6rem 0 .4rem; padding-bottom: .3rem; border-bottom: 2px solid var(--line); }
h3 { margin: 1.6rem 0 .4rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .4rem .8rem .4rem 0;
       border-bottom: 1px solid var(--line); vertical-align: top; } th { color: var(--soft); font-weight: 500; }
table.facts th { width: 34%; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; } code { overflow-wrap: anywhere; font-size: .85em; }
.PASS { color: var(--good); } .FAIL { color: var(--bad); } .INCONCLUSIVE, .INVALID { color: var(--open); }
.mark { font-weight: 600; font-size: .85em; border: 1px solid; border-radius: 99px; padding: .1rem .55rem;
       white-space: nowrap; }
.soft { color: var(--soft); } svg { width: 100%; height: auto; display: block; margin: .2rem 0 .8rem; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); } svg .y { text-anchor: end; }
svg .x { text-anchor: middle; } svg .name { font-weight: 600; fill: var(--ink); } svg .grid { stroke: var(--line); }
svg line.limit { stroke: var(--bad); stroke-dasharray: 5 4; } svg text.limit { fill: var(--bad); }
svg .data { fill: none; stroke: var(--data); stroke-width: 1.8; }
svg .hit { fill: var(--data); fill-opacity: .6; } svg .miss { fill: var(--bad); }
svg .clean { fill: var(--data); fill-opacity: .18; } svg text.on { fill: #fff; }
svg .part0 { fill: #2f5fd0; } svg .part1 { fill: #7a4fbf; }
svg .part2 { fill: #b04a8b; } svg .part3 { fill: #b8643a; } svg .part4 { fill: #5b6b7f; }
@media print { body { max-width: none; margin: 0; } h2 { break-after: avoid; } svg, table { break-inside: avoid; } }
"""
