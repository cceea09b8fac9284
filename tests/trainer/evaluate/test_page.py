from __future__ import annotations

from trainer.evaluate import page


def test_nothing_from_outside_becomes_markup() -> None:
    text = page.page("<b>", [page.table(("<i>",), [("<script>",)]), page.warnings(["a < b"])])
    for markup in ("<b>", "<i>", "<script>", "a < b"):
        assert markup not in text.replace("<b>Warning:</b>", "")
    assert "&lt;script&gt;" in text


def test_figures_have_three_decimals_and_a_dash_for_none() -> None:
    assert [page.figure(value) for value in (0.12345, 3, None, "x")] == ["0.123", "3", "–", "x"]
    assert page.interval([0.1, 0.25]) == "0.100 – 0.250"
    assert page.interval(None) == ""


def test_pictures_are_inside_the_page() -> None:
    assert 'src="data:image/png;base64,iVBORw==' in page.image(b"\x89PNG", "x")
    assert 'src="data:image/jpeg;base64,/9j/' in page.image(b"\xff\xd8\xff", "a picture")
