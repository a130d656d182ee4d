"""The style sheet of a report: system fonts, one accent colour, light and dark."""

from __future__ import annotations

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fbfbf9; --card: #ffffff; --ink: #1d1f24; --soft: #5f646e; --line: #e4e4df;
  --track: #edede8; --accent: #2f6f9f; --accent-soft: #dbe9f3; --good: #2e7d4f; --bad: #b3402f;
  --warn: #fff5dc; --warn-line: #e3c275; --s1: #8a8f99; --s2: #d08a1d; --s3: #7d5ba6; --s4: #2e8b7a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181c; --card: #1d2025; --ink: #e7e7e3; --soft: #9da2ac; --line: #30343b;
    --track: #2a2d33; --accent: #6fb0de; --accent-soft: #24394a; --good: #6cc08f; --bad: #e58a78;
    --warn: #322b1a; --warn-line: #6d5a2a; --s1: #a4a9b3; --s2: #e8b054; --s3: #b795e0;
    --s4: #5fc4b0;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 0 0 4px; }
h3 { font-size: 15px; margin: 0 0 8px; }
section { margin-top: 48px; }
p { margin: 0; }
.summary { color: var(--soft); font-size: 17px; max-width: 46em; }
.lead { color: var(--soft); max-width: 52em; margin-bottom: 16px; }
pre {
  margin: 20px 0 0; padding: 12px 16px; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; overflow-wrap: anywhere; white-space: pre-wrap;
  font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
.facts { display: flex; flex-wrap: wrap; gap: 12px 40px; margin: 24px 0 0; padding: 0; }
.facts div { display: flex; flex-direction: column-reverse; min-width: 90px; }
.facts dt { color: var(--soft); font-size: 13px; }
.facts dd { margin: 0; font-size: 26px; font-weight: 600; line-height: 1.2; }
.warnings {
  margin-top: 28px; padding: 12px 18px; background: var(--warn);
  border: 1px solid var(--warn-line); border-radius: 8px;
}
.warnings ul { margin: 0; padding-left: 18px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: 8px 0 8px 20px; border-top: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: 13px; border-top: 0; }
tbody + tbody tr:first-child > * { border-top: 2px solid var(--line); }
tr.group th {
  color: var(--soft); font-weight: 500; font-size: 13px; padding-top: 20px; text-align: left;
}
td.name { min-width: 170px; }
td small { display: block; color: var(--soft); font-size: 13px; }
td.meter { width: 30%; min-width: 110px; }
td.figure { white-space: nowrap; }
td b { font-weight: 600; }
tr.focus td.name > span { color: var(--accent); font-weight: 600; }
.spread { color: var(--soft); font-size: 13px; }
.bar { display: block; width: 100%; height: 10px; overflow: visible; }
.bar .track { fill: var(--track); }
.bar .fill { fill: var(--s1); opacity: 0.55; }
.focus .bar .fill, .bars .bar .fill { fill: var(--accent); opacity: 1; }
.bar circle { stroke: var(--paper); stroke-width: 1.5px; }
.s1 { fill: var(--s1); } .s2 { fill: var(--s2); } .s3 { fill: var(--s3); } .s4 { fill: var(--s4); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-bottom: 14px; font-size: 13px; }
.legend span { display: inline-flex; align-items: center; gap: 7px; }
.legend svg { width: 12px; height: 12px; }
.legend .swatch { fill: var(--accent); }
.bars { columns: 2; column-gap: 48px; }
.bars > div {
  display: grid; grid-template-columns: minmax(80px, 8.5em) 1fr 4.2em; gap: 12px;
  align-items: center; height: 27px; break-inside: avoid;
}
.bars .key { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bars .value { text-align: right; }
.bars .none { color: var(--bad); }
.counts > div { grid-template-columns: minmax(80px, 8.5em) 1fr 7.5em; }
.grid { display: grid; gap: 20px; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); }
.wide { grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden;
}
.card .words { padding: 12px 14px 14px; }
.card .words > * + * { margin-top: 8px; }
.strip { display: flex; gap: 2px; background: var(--line); }
.strip figure { flex: 1 1 0; min-width: 0; margin: 0; background: var(--card); }
.strip img { display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: cover; }
.strip figcaption {
  padding: 5px 8px; font-size: 12.5px; color: var(--soft); overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis;
}
.gallery { display: grid; grid-template-columns: repeat(var(--across), 1fr); gap: 2px; }
.gallery img { display: block; width: 100%; height: auto; aspect-ratio: 1; object-fit: cover; }
.note { color: var(--soft); font-size: 13px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.chip {
  padding: 1px 9px; border-radius: 99px; font-size: 13px; line-height: 1.55;
  background: var(--accent-soft); border: 1px solid transparent; white-space: nowrap;
}
.chip.unknown { background: none; border: 1px dashed var(--soft); color: var(--soft); }
.chip.hit { background: none; border-color: var(--good); color: var(--good); }
.chip.wrong { background: none; border-color: var(--bad); color: var(--bad); }
.chip.below { background: none; border-color: var(--line); color: var(--soft); }
.chip.missed { background: none; border: 1px dotted var(--bad); color: var(--bad); }
.tags {
  display: grid; grid-template-columns: 5em 1fr; gap: 8px 4px; align-items: baseline; margin: 0;
}
.tags dt { color: var(--soft); font-size: 13px; }
.tags dd { margin: 0; }
.made { display: grid; grid-template-columns: max-content 1fr; gap: 4px 24px; margin: 12px 0 0; }
.made dt { color: var(--soft); }
.made dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 56px; color: var(--soft); font-size: 13px; }
@media (max-width: 760px) {
  main { padding: 24px 16px 48px; }
  h1 { font-size: 25px; }
  .bars { columns: 1; }
  .wide { grid-template-columns: 1fr; }
  .grid:not(.wide) { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 12px; }
  th, td { padding-left: 9px; }
  td.name { min-width: 100px; }
  td.meter, th.meter { display: none; }
  .made { grid-template-columns: 1fr; gap: 0; }
  .made dd { margin-bottom: 8px; }
}
@media print { section { break-inside: auto; } .card { break-inside: avoid; } }
"""
