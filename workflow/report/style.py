"""Style sheet of the page: light and dark, wide and narrow, no outside font or picture."""

from __future__ import annotations

#: Colours of the light and the dark page; text keeps a contrast of 4.5 or more on both grounds.
LIGHT = {
    "ground": "#f5f6f8",
    "card": "#ffffff",
    "ink": "#1b1f27",
    "muted": "#586070",
    "line": "#dadee5",
    "accent": "#2f66c4",
    "warn": "#fff3d6",
    "warn-line": "#d99a1c",
}
DARK = {
    "ground": "#12151a",
    "card": "#1b2027",
    "ink": "#e7eaef",
    "muted": "#a3acba",
    "line": "#343b47",
    "accent": "#6ea3f5",
    "warn": "#3a2f14",
    "warn-line": "#c9952e",
}


def _variables(colours: dict[str, str]) -> str:
    """Return CSS that sets one variable per colour."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())


STYLE_SHEET = f"""
:root{{color-scheme:light dark;{_variables(LIGHT)}}}
@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}}
main{{max-width:1120px;margin:0 auto;padding:0 20px}}
header{{padding:20px 20px 0}}
header,.explore{{max-width:2400px;margin:0 auto}}
h1{{font-size:clamp(1.4rem,4vw,2rem);line-height:1.15;margin:.15em 0 .3em;letter-spacing:-.01em}}
h2{{font-size:1.3rem;margin:0 0 .2em}}
h3{{font-size:1rem;margin:0;display:flex;align-items:center;gap:8px}}
p{{margin:.3em 0 .7em;max-width:72ch}}
section{{margin:36px 0}}
.name,.path,.hint,figcaption{{color:var(--muted)}}
.name{{margin:0;font-weight:600}}
.path{{font-size:.85rem;overflow-wrap:anywhere}}
.hint,figcaption{{font-size:.9rem}}
.lead{{font-size:1.05rem;max-width:110ch}}
.next{{display:flex;flex-wrap:wrap;gap:4px 16px;margin:4px 0 8px}}
a{{color:var(--accent)}}
.share{{display:block;width:100%;height:18px;border-radius:5px;background:var(--line);margin:14px 0 4px}}
.figures{{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:22px 0}}
.figures div,.card,.plot{{background:var(--card);border:1px solid var(--line);border-radius:10px}}
.figures div{{padding:10px 14px}}
dl{{margin:0}}dt{{color:var(--muted);font-size:.85rem}}
dd{{margin:0;font-size:1.25rem;font-weight:600;overflow-wrap:anywhere}}
dd small{{display:block;font-size:.8rem;font-weight:400;color:var(--muted)}}
.notes{{background:var(--warn);border-left:4px solid var(--warn-line);border-radius:6px;padding:12px 18px}}
.notes ul{{margin:.2em 0;padding-left:1.1em}}.notes li{{overflow-wrap:anywhere}}
.sheets{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,336px),1fr));gap:14px;margin:12px 0}}
.card{{margin:0;padding:12px 14px}}
.card img{{display:block;max-width:100%;height:auto;margin-top:8px;background:var(--line);outline:1px solid var(--line);image-rendering:pixelated}}
.swatch{{width:14px;height:14px;border-radius:4px;flex:none}}
.mark{{white-space:nowrap;background:var(--warn);border:1px solid var(--warn-line);border-radius:9px;padding:0 8px;
font-size:.8rem;font-weight:400}}
code{{overflow-wrap:anywhere}}code.short{{white-space:nowrap}}
.plots{{display:grid;margin-bottom:14px;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:14px}}
.plot{{margin:0;padding:12px 14px;min-width:0}}
.plot svg{{display:block;width:100%;height:auto;max-width:640px}}
.plot.wide svg{{max-width:none;min-width:680px}}
.plot svg text{{font-family:inherit}}
.scroll{{overflow-x:auto}}
.scroll:focus-visible,summary:focus-visible{{outline:2px solid var(--accent);outline-offset:2px}}
table{{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;min-width:min(100%,420px)}}
th,td{{text-align:left;padding:5px 14px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}}
td{{overflow-wrap:break-word;max-width:60ch}}
thead th{{color:var(--muted);font-weight:600;white-space:nowrap}}
tbody th{{font-weight:600}}
.num{{text-align:right;white-space:nowrap}}
details{{margin:10px 0}}
summary{{cursor:pointer;font-weight:600;padding:6px 0}}
button,input,select{{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:3px 9px}}
button{{cursor:pointer}}
button:disabled{{opacity:.35;cursor:default}}
button[aria-pressed=true]{{border-color:var(--accent);color:var(--accent)}}
:is(a,button,input,select,canvas):focus-visible{{outline:2px solid var(--accent);outline-offset:2px}}
input[type=range]{{padding:0;width:110px;vertical-align:middle}}
.explore{{padding:0 20px}}
.explore[hidden],.tip[hidden]{{display:none}}
.tools{{display:flex;flex-wrap:wrap;gap:6px 18px;align-items:center;margin:6px 0 10px;position:relative}}
.tools details{{margin:0}}
.filters{{position:absolute;z-index:3;display:flex;flex-direction:column;gap:8px;max-width:100%;background:var(--card);border:1px solid var(--line);
border-radius:8px;padding:12px;box-shadow:0 4px 16px #0004}}
.filters input[type=number]{{width:7em}}
.find{{display:flex;gap:4px}}
#find{{width:min(19em,56vw)}}
.stage{{display:grid;grid-template-columns:minmax(0,1fr) minmax(320px,27%);gap:14px;height:clamp(420px,calc(100vh - 305px),1300px)}}
.chart{{position:relative;min-height:0;background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}}
.chart canvas{{display:block;width:100%;height:100%;touch-action:none;cursor:crosshair}}
.chart canvas:focus-visible{{outline-offset:-3px}}
.zoom{{position:absolute;top:10px;left:10px;display:flex;flex-direction:column;gap:4px}}
.legend{{position:absolute;left:10px;bottom:10px;max-width:min(260px,62%);max-height:52%;overflow:auto;padding:6px 10px;font-size:.85rem;
background:var(--card);border:1px solid var(--line);border-radius:8px}}
.legend[hidden]{{display:none}}
.legend details,.legend .plain,.legend p{{margin:0}}
.legend summary{{padding:0}}
.legend button{{border:0;background:none;padding:1px 4px;text-align:left;overflow-wrap:anywhere}}
.legend button[aria-pressed=true]{{outline:2px solid var(--accent)}}
.legend li{{padding:1px 4px}}.legend li:has(button){{padding:0}}
.list .mark{{font-size:.7rem;padding:0 5px}}.list thead{{font-size:.8rem}}
.legend .swatch{{display:inline-block;vertical-align:-2px;margin-right:7px}}
.ramp{{height:12px;width:180px;max-width:100%;border-radius:3px;margin:4px 0 2px}}
.ends{{display:flex;justify-content:space-between;max-width:180px}}
textarea{{width:100%;font:inherit;font-size:.85rem;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:6px}}
.zoom button{{width:34px;height:34px;padding:0;font-size:1.1rem;line-height:1}}
.tip{{position:absolute;z-index:2;display:flex;gap:10px;width:max-content;max-width:min(340px,90%);padding:8px 10px;font-size:.85rem;pointer-events:none;
background:var(--card);border:1px solid var(--line);border-radius:8px;box-shadow:0 2px 10px #0003}}
.file{{overflow-wrap:anywhere}}
.side{{display:flex;flex-direction:column;min-height:0;background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}}
.tabs{{display:flex;gap:4px;padding:8px 12px 0;border-bottom:1px solid var(--line)}}
.tabs a{{padding:4px 10px 8px;text-decoration:none;font-weight:600;border-bottom:3px solid transparent}}
.tabs a[hidden]{{display:none}}
.tabs a[aria-current]{{border-color:var(--accent);color:var(--ink)}}
#panel{{overflow:auto;padding:12px 14px;flex:1}}
#panel h2{{display:flex;align-items:center;gap:8px;flex-wrap:wrap;overflow-wrap:anywhere}}
#panel h3{{margin:16px 0 6px}}
#panel .mark{{margin-left:5px}}
.facts{{display:grid;grid-template-columns:auto minmax(0,1fr);gap:2px 14px;font-size:.9rem;margin:8px 0}}
.facts dd{{font-size:inherit;font-weight:400}}
.list{{width:100%;min-width:0}}
.list caption{{text-align:left;color:var(--muted)}}
.explore>.hint{{max-width:none}}
.list td,.list th{{padding:4px 8px 4px 0;vertical-align:middle}}
.list tbody th{{width:100%;overflow-wrap:anywhere}}
.list thead button{{border:0;background:none;padding:0;color:var(--muted);font-weight:600;white-space:normal;text-align:left}}
.small{{outline:1px solid var(--line);width:26px;height:auto;vertical-align:middle;margin-right:6px}}
.list .swatch,.tree .swatch,p>.swatch{{display:inline-block;vertical-align:-2px;margin-right:7px}}
.tiles{{display:flex;flex-wrap:wrap;gap:4px;margin:6px 0}}
.tile{{display:block;background:var(--line);line-height:0;border:2px solid transparent;border-radius:3px}}
.tile:is(:hover,:focus-visible){{border-color:var(--accent)}}
.picture,.tile img,.large img{{image-rendering:pixelated}}
.large img{{width:min(100%,192px)}}
.choice{{display:flex;gap:4px}}
.plain,.tree{{list-style:none;margin:6px 0;padding:0}}
.tree .tree{{padding-left:22px}}
.tree li{{margin:3px 0}}
.opener{{width:24px;height:24px;padding:0;margin-right:6px;line-height:1}}
.opener::before{{content:"+"}}
.opener[aria-expanded=true]::before{{content:"\2212"}}
.edits form{{display:flex;gap:6px;margin:6px 0}}
.edits input{{min-width:0;flex:1}}
@media (max-width:900px){{.stage{{display:block;height:auto}}.chart{{height:clamp(300px,min(62vh,100vw),640px)}}
.side{{margin-top:12px}}#panel{{max-height:80vh}}}}
@media (max-width:560px){{.explore{{padding:0 14px}}.zoom{{flex-direction:row}}}}
@media (max-width:560px){{main,header{{padding-left:14px;padding-right:14px}}.lead{{font-size:1rem}}
.figures{{grid-template-columns:1fr 1fr}}}}
@media print{{.card,.plot{{break-inside:avoid}}}}
"""

#: The same colours where a notebook holds the page's parts: those of its theme, or of its text.
_NOTEBOOK = {
    "ink": "var(--jp-content-font-color1,currentColor)",
    "muted": "var(--jp-content-font-color2,currentColor)",
    "line": "var(--jp-border-color2,rgba(128,128,128,.4))",
    "card": "transparent",
    "accent": "#4a86d8",
    "warn": "rgba(217,154,28,.16)",
    "warn-line": "#d99a1c",
    "bad": "#d6456b",
    "good": "#2f9e6b",
}

#: Style sheet of what stands in a notebook: nothing outside of ``.overcluster`` is touched.  Its name
#: is written twice where the notebook's own rules would win.
NOTEBOOK_SHEET = f"""
.overcluster{{{_variables(_NOTEBOOK)}color:var(--ink);font:14px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;max-width:1080px}}
.overcluster.overcluster p{{margin:.2em 0 .5em;max-width:80ch}}
.overcluster.overcluster h3{{font-size:13px;margin:0;padding:0;display:flex;align-items:center;gap:6px}}
.overcluster.overcluster h4{{font-size:18px;margin:.3em 0}}
.overcluster .hint,.overcluster figcaption,.overcluster .path{{color:var(--muted);font-size:12px;overflow-wrap:anywhere}}
.overcluster .share{{display:block;width:100%;height:14px;border-radius:4px;background:var(--line);margin:8px 0}}
.overcluster figure{{margin:0;min-width:0}}
.overcluster .sheets{{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:10px;margin:8px 0}}
.overcluster .card{{border:1px solid var(--line);border-radius:6px;padding:8px}}
.overcluster .card img{{display:block;max-width:100%;height:auto;margin-top:6px;image-rendering:pixelated}}
.overcluster .swatch{{width:12px;height:12px;border-radius:3px;flex:none}}
.overcluster .mark{{white-space:nowrap;background:var(--warn);border:1px solid var(--warn-line);border-radius:8px;padding:0 6px;font-size:11px;font-weight:400}}
.overcluster .beside{{display:flex;flex-wrap:wrap;gap:20px;align-items:flex-start}}
.overcluster .plot{{flex:1 1 380px;max-width:640px}}
.overcluster .plot.wide{{flex-basis:100%;max-width:none}}
.overcluster .plot svg{{display:block;width:100%;height:auto}}
.overcluster .scroll{{overflow-x:auto}}
.overcluster.overcluster table{{font:inherit;border-collapse:collapse;font-variant-numeric:tabular-nums;background:none;color:inherit;margin:0}}
.overcluster tr{{background:none!important}}
.overcluster.overcluster th,.overcluster.overcluster td{{text-align:left;padding:2px 14px 2px 0;border:none;vertical-align:top;max-width:52ch;white-space:normal;overflow-wrap:break-word;background:none}}
.overcluster.overcluster th{{font-weight:400;color:var(--muted)}}
.overcluster.overcluster .num{{text-align:right;white-space:nowrap}}
.overcluster .notes{{background:var(--warn);border-left:3px solid var(--warn-line);border-radius:4px;padding:6px 12px;margin:6px 0}}
.overcluster .notes ul{{margin:0;padding-left:1.1em}}
.overcluster details{{margin:6px 0}}
.overcluster .jp-InternalAnchorLink{{display:none}}
.overcluster summary{{cursor:pointer;font-weight:600}}
.overcluster a{{color:var(--accent)}}
.overcluster .bar{{display:inline-block;vertical-align:middle;width:220px;height:9px;border-radius:4px;background:var(--line);overflow:hidden}}
.overcluster .bar span{{display:block;height:100%;background:var(--accent)}}
.overcluster .done .bar span,.overcluster .complete .bar span{{background:var(--good)}}
.overcluster .failed .bar span,.overcluster .stopped .bar span{{background:var(--bad)}}
.overcluster .failed b,.overcluster .stopped b{{color:var(--bad)}}
.overcluster .complete,.overcluster .waiting{{opacity:.65}}
"""
