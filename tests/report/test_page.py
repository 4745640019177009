"""The report: one file that is whole, safe and readable."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from geoattn.errors import InputError, ShapeError
from geoattn.report import (
    Code,
    ImageGrid,
    KeyValues,
    Plot,
    Section,
    Table,
    Text,
    WarningBox,
    figures,
    metrics_table,
    render_report,
    symmetry_section,
    write_report,
)
from geoattn.report.svg import figure_svg, inline_svg

EVIL = "<script>alert('x')</script>&\"'<b>"
DOT = '<svg xmlns="http://www.w3.org/2000/svg" width="10px" height="10px"><circle id="c" r="3"/></svg>'
METRICS = {
    "test": {"rmse": {"value": 0.5, "ci95": [0.4, 0.6], "n": 113}, "r2": {"value": 0.9, "ci95": None, "n": 113}},
    "baselines": {"test": {"mean": {"rmse": {"value": 1.25, "ci95": [1.0, 1.5], "n": 113}}}},
}


class Reader(HTMLParser):
    """Checks that tags close in order; collects ids, tags, attributes and words."""

    void = frozenset({"meta", "link", "br", "img", "wbr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.ids, self.tags, self.attributes, self.words = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def everything(words: str) -> str:
    """A report with every kind of block, saying ``words`` wherever a user's text can stand."""
    blocks = [
        Text(words),
        Code(words),
        WarningBox(words),
        KeyValues({words: words}),
        Table([words, "b"], [[words, words], [1, 2.0]], caption=words),
        Plot(DOT, words, alt=words),
        Plot(figures.parity([1, 2], [1, 3], label=words, unit=words), words),
        ImageGrid([(DOT, words)], caption=words),
    ]
    sections = [Section(words, blocks), Section("b", []), Section("c", [metrics_table(METRICS)])]
    return render_report(
        words, sections, summary=words, headline={words: words, "n": 3, "rmse": METRICS["test"]["rmse"]}
    )


def test_all_text_is_escaped():
    page = everything(EVIL)
    reader = Reader(page)
    assert "script" not in reader.tags and "b" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert reader.text.count("alert('x')") >= 15


def test_the_page_needs_nothing_but_itself():
    page = everything("words")
    reader = Reader(page)
    assert not {"script", "link", "iframe", "object", "img", "base"} & set(reader.tags)
    for name, value in reader.attributes:
        assert not (name in ("src", "href", "srcset", "data") and not value.startswith("#")), (name, value)
        assert "url(" not in (value or "") or "url(#" in value
    assert "@import" not in page and "url(http" not in page and "http://" not in page and "https://" not in page


def test_ids_are_unique_and_all_references_lead_somewhere():
    pictures = [Plot(figures.parity([1, 2], [1, 3], std=[1, 1]), "a"), Plot(figures.roc([0, 1], [0, 1]), "b")] * 2
    page = render_report("t", [Section(str(k), pictures) for k in range(3)])
    ids = Reader(page).ids
    assert len(ids) == len(set(ids)) > 20
    references = set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page))
    assert references and references <= set(ids)


def test_the_page_is_made_for_readers_of_all_kinds():
    page = everything("words")
    assert '<html lang="en">' in page and 'name="viewport"' in page and "@media print" in page
    reader = Reader(page)
    assert reader.tags.count("h1") == 1 and "th" in reader.tags and "caption" in reader.tags


def test_every_picture_is_described():
    page = render_report(
        "t", [Section("s", [Plot(DOT, "caption"), Plot(DOT, "caption", alt="other"), ImageGrid([(DOT, "x")])])]
    )
    assert re.findall(r'<svg [^>]*role="img" aria-label="([^"]*)"', page) == ["caption", "other", "x"]


def test_tables_round_numbers_and_mark_the_best():
    rows = [
        ["a", 0.12345, 3, {"value": 1.0, "ci95": [0.9, 1.1]}],
        ["b", 0.2, None, {"value": 2.0}],
        ["c", np.nan, 5, None],
    ]
    page = render_report(
        "t", [Section("s", [Table(["", "x", "y", "z"], rows, best={"x": "min", "y": "max", "z": "max"})])]
    )
    best = re.findall(r'<td class="number best">([^<]*)<', page)
    assert best == ["0.123", "2.00", "5"]
    assert '1.00 <span class="spread">[0.90, 1.10]</span>' in page and "The best of a column is bold." in page
    with pytest.raises(ShapeError, match=r"rows\[0\]: got 1 cells, expected 2, one per column"):
        render_report("t", [Section("s", [Table(["a", "b"], [[1]])])])


def test_one_row_is_no_competition():
    assert 'class="number best"' not in render_report(
        "t", [Section("s", [Table(["", "x"], [["a", 1]], best={"x": "min"})])]
    )


def test_the_metrics_table_has_the_baselines_and_knows_the_better_way():
    table = metrics_table(METRICS, model="ours")
    assert table.columns == ["", "RMSE ↓", "R² ↑"] and table.best == {"RMSE ↓": "min", "R² ↑": "max"}
    assert [row[0] for row in table.rows] == ["ours", "mean"] and table.rows[1][2] is None
    assert "n = 113" in table.caption
    measures = {"roc_auc": {"value": 0.5, "n": 24}, "pr_auc": {"value": 0.5, "n": 24}}
    of_epitopes = {"macro_roc_auc": {"value": None, "n": 0}}
    assert "n = 24 (macro ROC AUC: n = 0)" in metrics_table({"test": measures | of_epitopes}).caption
    Reader(render_report("t", [Section("s", [table, metrics_table({})])]))


def test_a_broken_symmetry_is_shouted():
    good = symmetry_section({"float32": 3e-7}, "Rotations.", tolerance={"float32": 1e-5})
    bad = symmetry_section(
        {"float32": 3e-3, "float64": float("nan")}, "Rotations.", tolerance={"float32": 1e-5, "float64": 1e-12}
    )
    assert "Caution" not in render_report("t", [good])
    assert "broken in float32, float64" in render_report("t", [bad])


def test_commands_can_be_copied():
    command = "geoattn molecules fit --data.file a.csv \\\n    --out runs/a"
    assert "".join(Reader(render_report("t", [Section("s", [Code(command)])])).words).count(command) == 1


def test_an_empty_report_is_still_a_page():
    Reader(render_report("", []))


def test_the_same_report_gives_the_same_text():
    assert everything("words") == everything("words")


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, "First", [Section("s", [Text("Zürich 1 Å")])])
    first = path.read_bytes()
    assert "Zürich 1 Å" in first.decode("utf-8")
    with pytest.raises(InputError, match="svg: not well-formed"):
        write_report(path, "Second", [Section("s", [Plot("<svg>", "broken")])])
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "missing" / "report.html", "Third", [])
    assert path.read_bytes() == first and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_thing_that_is_no_block_is_named():
    with pytest.raises(TypeError, match="str is not a block"):
        render_report("t", [Section("s", ["text"])])


# ---------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        '<circle onclick="alert(1)" r="1"/>',
        '<circle ONLOAD="alert(1)" r="1"/>',
        '<a href="javascript:alert(1)"><text>x</text></a>',
        '<a xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="javascript:alert(1)"><text>x</text></a>',
        '<image href="https://alert.example/x.png"/>',
        "<foreignObject><iframe src='alert'/></foreignObject>",
        "<style>@import 'alert';</style>",
        '<rect fill="url(https://alert.example/#a)"/>',
        '<rect style="fill:url( &quot;//alert.example&quot; )"/>',
        '<animate attributeName="href" to="javascript:alert(1)"/>',
        '<svg:script xmlns:svg="http://www.w3.org/2000/svg">alert(1)</svg:script>',
    ],
)
def test_pictures_are_disarmed(inside):
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="3" height="3">{inside}<path d="M0 0"/></svg>'
    clean = inline_svg(svg, "p1-", "x")
    assert "alert" not in clean and '<path d="M0 0"' in clean


def test_references_inside_a_picture_are_kept_together():
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36pt">'
        '<defs><clipPath id="a"><rect/></clipPath></defs><g clip-path="url(#a)" style="fill:url(\'#a\')"/>'
        '<use xlink:href="#a"/><image href="data:image/png;base64,AAAA"/></svg>'
    )
    clean = inline_svg(svg, "p7-", 'a "quoted" picture')
    assert 'id="p7-a"' in clean and 'clip-path="url(#p7-a)"' in clean and 'style="fill:url(#p7-a)"' in clean
    assert 'href="#p7-a"' in clean and "data:image/png;base64,AAAA" in clean
    assert 'viewBox="0 0 96 48"' in clean and 'width="96"' in clean and 'height="36pt"' not in clean
    assert "&quot;quoted&quot;" in clean and "xmlns" not in clean


@pytest.mark.parametrize(
    ("svg", "message"), [("no picture", "not well-formed"), ("<p>text</p>", "outermost element is <p>")]
)
def test_what_is_no_picture_is_refused(svg, message):
    with pytest.raises(InputError, match=message):
        inline_svg(svg, "p1-", "x")


def test_molecules_drawn_by_rdkit_fit_in():
    chem = pytest.importorskip("rdkit.Chem")
    drawing = pytest.importorskip("rdkit.Chem.Draw.rdMolDraw2D").MolDraw2DSVG(200, 150)
    drawing.DrawMolecule(chem.MolFromSmiles("CCO"))
    drawing.FinishDrawing()
    page = render_report("t", [Section("s", [ImageGrid([(drawing.GetDrawingText(), "ethanol\n1.2")])])])
    reader = Reader(page)
    assert "svg" in reader.tags and "viewbox" in dict(reader.attributes) and "xmlns" not in page


def test_letters_of_figures_are_letters():
    clean = inline_svg(figure_svg(figures.parity([1, 2], [1, 2], label="logS")), "p1-", "x")
    assert "true logS" in clean and "DejaVu" not in clean and "system-ui" in clean
