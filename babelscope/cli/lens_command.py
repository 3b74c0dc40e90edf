"""`babelscope lens DIR PROMPT`: what every layer decodes to at every position of one prompt."""

from __future__ import annotations

import glob
import html
import sys
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from babelscope.analyses.executor import require_dtype
from babelscope.analyses.questions import questions_file
from babelscope.checkpoints.series import Series
from babelscope.checkpoints.weights import BrokenWeightsError
from babelscope.cli.output import PLACE, Device, Dtype, Json, Pivot, Target, emit, say, stdout
from babelscope.core.errors import InputError
from babelscope.core.files import write_text
from babelscope.core.languages import shown
from babelscope.interp.prompt_texts import ends_within_a_token
from babelscope.interp.streams import PromptStream
from babelscope.probes.identifiers import ProbeSet, shared_probes
from babelscope.probes.placement import ANY
from babelscope.probes.probe_files import probes_of, read_probe_files

if TYPE_CHECKING:
    import xarray as xr

COLUMN = 14  # characters of the terminal that a position takes
MOST = 8  # positions that are printed
PAGE = Template("""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>$title</title></head>
<body style="font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 24px auto; padding: 0 16px">
<h1 style="font-size: 20px">$title</h1>
<pre style="background: #f6f8fa; padding: 10px 14px; white-space: pre-wrap">$prompt</pre>
$figure
<p>Each cell is the token that a layer's state decodes to after the token below it; the last layer is the
model's output. Coloured are the tokens that begin identifiers of one language only. Point at a cell for the
likeliest five.</p>
</body>
</html>
""")


def command(
    directory: Annotated[Path, typer.Argument(help=f"{PLACE} One checkpoint's folder will do.")],
    prompt: Annotated[
        str,
        typer.Argument(help="Any text, read to its last character; @FILE for a file's, - for what is piped."),
    ],
    step: Annotated[
        list[int] | None,
        typer.Option(help="Of the checkpoints to look at, each by an option of its own; default: the last."),
    ] = None,
    pivot: Pivot = None,
    target: Target = None,
    probes: Annotated[
        list[Path] | None,
        typer.Option(help="Identifier probes of your own, whose identifiers are coloured too."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="An HTML page to write: the table, with more on pointing at a cell.")
    ] = None,
    device: Device = None,
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> int:
    """Look at one prompt: a table of layers and positions, coloured by whose identifier each token begins.

    This is a look and no measurement: nothing is stored beside the checkpoints.
    """
    require_dtype(dtype)
    text = _text(prompt)
    if out is not None and out.is_dir():
        raise InputError(
            f"--out {out} is a directory; give the name of a file in it, such as {out / 'lens.html'}"
        )
    series = _opened(directory, step or [], pivot=pivot, target=target)
    probed, note = _identifiers(series, probes or [])
    notes = [note] if note else []
    if ends_within_a_token(series.tokenizer, text):
        notes.append(
            "the prompt ends where this tokenizer joins what follows; leave out white space at its end"
        )
    try:
        table = series.lens_table(text, steps=step or (), probes=probed, device=device, dtype=dtype)
    except BrokenWeightsError as error:
        raise InputError(str(error)) from None
    if out is not None:
        _write(table, text, out, series)
    if as_json:
        findings = {"findings": [asdict(finding) for finding in series.findings]}
        emit(_document(table, text, notes) | findings | {"files": {"table": str(out)} if out else {}})
    else:
        for one in table["step"].to_numpy():
            _print(table.sel(step=one), series)
        found = [f"{finding.kind}: {finding.detail}" for finding in series.findings]
        say(*(f"! {note}" for note in notes + found), *([f"table: {out}"] if out else []))
    return 1 if series.findings else 0


def _text(given: str) -> str:
    if given == "-":
        text = sys.stdin.read()
    elif given.startswith("@"):
        try:
            text = Path(given[1:]).read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise InputError(
                f"{given}: the file cannot be read ({reason}); pipe in a prompt that begins with @, with -"
            ) from None
    else:
        text = given
    if not text:
        raise InputError(f"the prompt {given!r} is empty; a lens needs a text to look at")
    return text


def _opened(directory: Path, steps: list[int], *, pivot: str | None, target: str | None) -> Series:
    """The series, which must have the steps; of a checkpoint's folder, that checkpoint alone."""
    place = str(directory)
    if any((directory / file).is_file() for file in ("config.json", "adapter_config.json")):
        directory = directory.absolute()
        place = f"{directory.parent}@{glob.escape(directory.name)}"
    series = Series.open(place, pivot=pivot, target=target)
    for step in steps:
        series.at(step)
    return series


def _identifiers(series: Series, own: list[Path]) -> tuple[ProbeSet | None, str]:
    """Probes whose identifiers are coloured, or None and why there are none."""
    file, asked = questions_file(series)
    paths = [*(file.parent / path for path in asked.probes if file), *own]
    names = [name for name in (series.pivot, series.target) if name]
    added = read_probe_files(paths)
    try:
        if asked.babel and series.target in asked.babel.targets:
            found = [*asked.babel.world.probes(series.target).probes, *added]
        else:
            found = probes_of([*names, *(probe.language for probe in added)], paths)
        if len({probe.language for probe in found}) < 2:
            return None, "no colours: identifiers of two languages are compared; give --pivot and --target"
        probes = shared_probes(found)
        PromptStream(probes, background={}, context=None, minimum=ANY).read(series.tokenizer)
    except InputError as error:
        return None, f"no colours: {error}"
    return probes, ""


def _print(table: xr.Dataset, series: Series) -> None:
    """The last positions, as many as fit, with the most likely token and its probability."""
    from babelscope.analyses.figures.lens_table import visible
    from babelscope.analyses.figures.style import language_colours

    languages = table["language"].to_numpy().tolist()
    colours = language_colours(languages, pivot=series.pivot or "", target=series.target or "")
    room = max(1, min(MOST, (stdout.width - 9) // COLUMN))
    earlier = max(0, table.sizes["position"] - room)
    table = table.isel(position=slice(earlier, None))
    cut = f", {earlier} earlier tokens not shown" if earlier else ""
    grid = Table(title=f"step {int(table['step']):,}{cut}", title_justify="left", title_style="bold")
    grid.add_column("after", justify="right")
    for given in table["given_text"].to_numpy():
        grid.add_column(Text(visible(given, COLUMN - 3)), no_wrap=True)
    numbers = table["layer"].to_numpy()
    for layer in numbers[::-1]:
        row = table.sel(layer=layer).isel(rank=0)
        cells = zip(
            *(row[name].to_numpy() for name in ("text", "probability", "language_of", "token")),
            table["next"].to_numpy(),
            strict=True,
        )
        grid.add_row(
            "output" if layer == numbers[-1] else f"layer {layer}",
            *(
                Text(
                    f"{visible(text, COLUMN - 6)} {chance:.0%}",
                    style=_style(colours, languages, whose, token == due),
                )
                for text, chance, whose, token, due in cells
            ),
        )
    grid.add_section()
    grid.add_row("next", *(Text(visible(text, COLUMN - 3)) for text in table["next_text"].to_numpy()))
    stdout.print(grid)
    if languages:
        stdout.print(
            *(Text(f"{shown(name)}'s identifiers", style=colours[name]) for name in languages), sep=", "
        )


def _style(colours: dict[str, str], languages: list[str], whose: int, right: bool) -> str:
    colour = colours[languages[whose]] if whose >= 0 else ""
    return f"bold {colour}".strip() if right else colour


def _write(table: xr.Dataset, text: str, out: Path, series: Series) -> None:
    from babelscope.analyses.figures import lens_table_figure

    figure = lens_table_figure(table, pivot=series.pivot, target=series.target)
    steps = ", ".join(f"{step:,}" for step in table["step"].to_numpy())
    page = PAGE.substitute(
        title=html.escape(f"Lens table: {series.directory.name}, step {steps}"),
        prompt=html.escape(text),
        figure=figure.to_html(full_html=False, config={"displaylogo": False, "responsive": True}),
    )
    write_text(out, page)


def _document(table: xr.Dataset, text: str, notes: list[str]) -> dict[str, Any]:
    names = table["language"].to_numpy().tolist()
    languages = [*names, None]  # the last is for nobody's
    keys = ("token", "text", "probability", "language_of")
    token, spelled, chance, whose = (table[key].to_numpy().tolist() for key in keys)
    entropy = table["entropy"].to_numpy().tolist()

    def cell(*at: int) -> dict[str, Any]:
        step, layer, position = at
        ranks = zip(
            *(values[step][layer][position] for values in (token, spelled, chance, whose)), strict=True
        )
        top = [{"id": i, "text": t, "probability": p, "language": languages[w]} for i, t, p, w in ranks]
        return {"entropy": entropy[step][layer][position], "top": top}

    positions = range(table.sizes["position"])
    return {
        "prompt": text,
        "languages": names,
        "tokens": table["given_text"].isel(step=0).to_numpy().tolist(),
        "steps": [
            {
                "step": step,
                "layers": [
                    {"layer": layer, "positions": [cell(s, row, position) for position in positions]}
                    for row, layer in enumerate(table["layer"].to_numpy().tolist())
                ],
            }
            for s, step in enumerate(table["step"].to_numpy().tolist())
        ],
        "notes": notes,
    }
