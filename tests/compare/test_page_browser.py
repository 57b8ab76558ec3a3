"""The report page in a real browser: from a file, offline, without an error, and doing what its controls say."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_report import ARMS, CAPTIONS, write_run

from browser import Browser, chromium
from diptych.compare import report

pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium on the path: install it to test the page in a browser")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    run = tmp_path_factory.mktemp("runs") / "fewer-steps"
    return run, write_run(run)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    pytest.importorskip("websocket", reason="websocket-client is not installed")
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture
def page(made: tuple[Path, dict], browser: Browser) -> Iterator[Browser]:
    """The page freshly loaded; whatever a test does, the page must not have complained."""
    path = made[0] / "report.html"
    if not path.exists():
        report.render(made[0])
    browser.errors.clear()
    browser.requests.clear()
    browser.size(1280, 900)
    browser.open(path)
    yield browser
    assert browser.errors == []
    outside = [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))]
    assert outside == [] and sum(url.startswith("file:") for url in browser.requests) == 1


def texts(page: Browser, selector: str) -> list[str]:
    return page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(node => node.textContent)")


def press(page: Browser, selector: str) -> None:
    page.run(f"document.querySelector({json.dumps(selector)}).click()")


def test_verdicts_in_the_page_are_those_of_the_report(page: Browser, made: tuple[Path, dict]):
    told = {f"{c['arm']} {c['metric']}": c["verdict"] for c in made[1]["cells"]}
    shown = page.run(
        "Object.fromEntries([...document.querySelectorAll('td[data-verdict]')].map(cell => "
        "[cell.closest('tr').dataset.arm + ' ' + cell.dataset.metric, cell.querySelector('.chip span').textContent]))"
    )
    assert shown == {key: "no verdict" if verdict == "none" else verdict for key, verdict in told.items()}


def test_a_verdict_opens_its_sentence(page: Browser, made: tuple[Path, dict]):
    assert page.run("[...document.querySelectorAll('.why')].every(row => row.hidden)")
    press(page, "tr[data-arm=int4] td[data-metric=features] .chip")
    told = next(c["sentence"] for c in made[1]["cells"] if (c["arm"], c["metric"]) == ("int4", "features"))
    assert page.run("document.querySelector('.why:not([hidden]) .lit dd').textContent").startswith(told)
    press(page, "tr[data-arm=int4] td[data-metric=features] .chip")
    assert page.run("document.querySelectorAll('.why:not([hidden])').length") == 0


def test_slider_moves_by_mouse_and_by_keys(page: Browser):
    knob = "document.querySelector('.knob')"
    assert page.run(f"{knob}.getAttribute('aria-valuenow')") == "50"
    page.run("document.querySelector('.stage').scrollIntoView({behavior: 'instant', block: 'center'})")
    box = page.run(
        "(({x, y, width, height}) => ({x, y, width, height}))(document.querySelector('.frame').getBoundingClientRect())"
    )
    middle = box["y"] + box["height"] / 2
    page.drag((box["x"] + box["width"] / 2, middle), (box["x"] + box["width"] * 0.2, middle))
    assert page.run(f"{knob}.getAttribute('aria-valuenow')") == "20"
    assert page.run("getComputedStyle(document.querySelector('.over')).clipPath") == "inset(0px 0px 0px 20%)"
    assert page.run(f"document.activeElement === {knob}")
    page.press("ArrowRight", 39)
    assert page.run(f"{knob}.getAttribute('aria-valuenow')") == "22"
    page.press("End", 35)
    assert page.run(f"{knob}.getAttribute('aria-valuenow')") == "100"


def test_tabs_switch_arm_and_kind_and_pairs(page: Browser, made: tuple[Path, dict]):
    assert texts(page, "[role=tab][data-arm]") == [ARMS[name][0] for name in list(ARMS)[1:]]
    press(page, "[role=tab][data-arm=int4]")
    press(page, "[role=tab][data-kind=best]")
    assert texts(page, "[role=tab][aria-selected=true]") == [ARMS["int4"][0], "Best"]
    assert texts(page, ".who") == [ARMS["heun-20"][0], ARMS["int4"][0]]
    first = texts(page, ".facts-of-pair .id")
    press(page, ".film button:nth-child(3)")
    third = texts(page, ".facts-of-pair .id")
    assert first != third and len(texts(page, ".film button")) == 6
    item = third[0].split()[0]
    assert texts(page, ".facts-of-pair blockquote") == [CAPTIONS[item]] and third[0].endswith("seed 0")
    page.run("document.querySelector('[role=tab][data-kind=best]').focus()")
    page.press("ArrowRight", 39)
    assert texts(page, "[role=tab][aria-selected=true]")[1] == "Random"


def test_every_way_to_compare_shows_both_pictures(page: Browser):
    for mode in ("slider", "blink", "side", "difference"):
        press(page, f"[data-mode={mode}]")
        script = "Promise.all([...document.querySelectorAll('.stage img')].map(i => i.decode().then(() => i.naturalWidth)))"
        assert page.run(script) == [48, 48], mode
        assert page.run("getComputedStyle(document.querySelector('.stage img')).imageRendering") == "pixelated"
    press(page, "[data-mode=blink]")
    hidden = "document.querySelectorAll('.stage img.off').length"
    flips = f"new Promise(done => setTimeout(() => done({hidden} === 1 && document.querySelector('.who').textContent), 800))"
    assert page.run(flips) == ARMS["heun-10"][0]


def test_choosers_show_one_figure(page: Browser):
    shown = "[...document.querySelectorAll('#cost figure:not([hidden])')].map(f => f.dataset.y + ' ' + f.dataset.x)"
    assert page.run(shown) == ["retrieval evaluations"]
    page.run(
        "(() => { const pick = document.querySelector('#cost [data-pick=x]'); pick.value = 'seconds';"
        " pick.dispatchEvent(new Event('change')); })()"
    )
    assert page.run(shown) == ["retrieval seconds"]
    assert page.run("document.querySelectorAll('#units .grid:not([hidden]) svg').length") == 4


def test_theme_follows_the_system_and_the_button(page: Browser):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    page.size(1280, 900, dark=True)
    dark = page.run(paper)
    assert light != dark
    press(page, "#theme")
    assert (page.run(paper), texts(page, "#theme")) == (light, ["Light"])
    press(page, "#theme")
    page.size(1280, 900)
    assert (page.run(paper), texts(page, "#theme")) == (dark, ["Dark"])
    press(page, "#theme")
    assert (page.run(paper), texts(page, "#theme")) == (light, ["Auto"])


def test_downloads_are_made_from_the_report(page: Browser, made: tuple[Path, dict]):
    links = page.run("[...document.querySelectorAll('[data-file]')].map(a => [a.dataset.file, a.download, a.protocol])")
    assert [name for name, _, _ in links] == ["cells.csv", "rows.csv", "table.tex", "report.json"]
    assert all(saved == f"fewer-steps-{name}" and protocol == "blob:" for name, saved, protocol in links)
    told = made[1]
    assert json.loads(page.run("files['report.json']()")) == told
    cells = page.run("files['cells.csv']()").splitlines()
    assert len(cells) == 1 + len(told["cells"]) and cells[0].startswith("arm,metric,unit,value,")
    assert sum(",worse," in line for line in cells) == sum(c["verdict"] == "worse" for c in told["cells"])
    rows = page.run("files['rows.csv']()").splitlines()
    assert len(rows) == 1 + 24 * (6 * 5 - 2), "the baseline has no drift from itself"
    assert rows[1] == "heun-20,0,retrieval,scene-00,0,1"
    table = page.run("files['table.tex']()")
    assert table.count("\\\\") == len(ARMS) and "DPM++ 2M, 10 steps & $0.0833$" in table and "95 \\%" in table


def test_copy_button_holds_the_command(page: Browser, made: tuple[Path, dict]):
    assert texts(page, "#command") == [made[1]["command"]]
    page.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    press(page, "[data-copy]")
    assert (
        page.run("new Promise(done => setTimeout(() => done(document.querySelector('[data-copy]').textContent), 200))")
        == "Copied"
    )


def test_fits_a_phone_and_prints(page: Browser):
    page.size(390, 844, touch=True)
    assert page.run("document.documentElement.scrollWidth") <= 390
    cell = "getComputedStyle(document.querySelector('td[data-verdict]')).display"
    assert page.run(cell) == "grid", "an arm is a card on a phone"
    page.size(1280, 900)
    assert page.run("document.documentElement.scrollWidth") <= 1280
    assert page.run("document.querySelectorAll('.print-pairs img').length") == 2 * 3 * 4
    assert page.pdf().startswith(b"%PDF")
