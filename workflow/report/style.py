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
main,header{{max-width:1120px;margin:0 auto;padding:0 20px}}
header{{padding-top:32px}}
h1{{font-size:clamp(1.6rem,5vw,2.4rem);line-height:1.15;margin:.15em 0 .3em;letter-spacing:-.01em}}
h2{{font-size:1.3rem;margin:0 0 .2em}}
h3{{font-size:1rem;margin:0;display:flex;align-items:center;gap:8px}}
p{{margin:.3em 0 .7em;max-width:72ch}}
section{{margin:36px 0}}
.name,.path,.hint,figcaption{{color:var(--muted)}}
.name{{margin:0;font-weight:600}}
.path{{font-size:.85rem;overflow-wrap:anywhere}}
.hint,figcaption{{font-size:.9rem}}
.lead{{font-size:1.1rem}}
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
.card img{{display:block;max-width:100%;height:auto;margin-top:8px;image-rendering:pixelated}}
.swatch{{width:14px;height:14px;border-radius:4px;flex:none}}
.mark{{background:var(--warn);border:1px solid var(--warn-line);border-radius:9px;padding:0 8px;
font-size:.8rem;font-weight:400}}
code{{overflow-wrap:anywhere}}
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
.overcluster .mark{{background:var(--warn);border:1px solid var(--warn-line);border-radius:8px;padding:0 6px;font-size:11px;font-weight:400}}
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
