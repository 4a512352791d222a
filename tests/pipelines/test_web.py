import io
import json
import shutil
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from helpers.paths import ROOT
from PIL import Image

pytest.importorskip("onnx", reason="needs the packages of pip install .[export]")
pytest.importorskip("onnxruntime", reason="needs the packages of pip install .[export]")
pytest.importorskip("onnxscript", reason="needs the packages of pip install .[export]")

sys.path.insert(0, str(ROOT / "pipelines" / "web"))

from build_page import NOT_SERVED, RUNTIME, build
from helpers.exported import exported_micro, random_pictures
from serve import Handler, make_server

from fdae_diffusers.errors import FDAEError
from fdae_diffusers.export import OnnxCodes, OnnxPipeline
from fdae_diffusers.image_processing import to_pixels

WEB = ROOT / "pipelines" / "web"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT = 40_000


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FDAEError, match="something else"):
        build([], tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a page with a micro model."""
    if not all((WEB / "node_modules" / name).is_file() for name in RUNTIME):
        pytest.skip("needs npm ci --prefix pipelines/web")
    model = exported_micro(tmp_path_factory).report.folder
    return build([model], tmp_path_factory.mktemp("site") / "page")


@pytest.fixture(scope="module")
def address(site):
    with make_server(site) as server:
        yield from _serving(server)


def _serving(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install .[browser]")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the page; afterwards, no request may have left this machine and no error been logged."""
    pages, elsewhere, errors = [], [], []

    def open_page(fragment="", at=address, width=1280, height=900, script=None, is_drawn=True):
        context = browser.new_context(viewport={"width": width, "height": height})
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("request", lambda request: request.url.startswith((at, "data:", "blob:")) or elsewhere.append(request))
        page.on("console", lambda message: message.type in ("error", "warning") and errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        if script:
            page.add_init_script(script)
        page.goto(f"{at}/{fragment}")
        if is_drawn:
            page.wait_for_selector("main[aria-busy=false] #result[data-quality=refined]")
        pages.append(context)
        return page

    yield open_page
    for context in pages:
        context.close()
    assert not elsewhere
    assert not errors


@pytest.fixture
def page(open_page):
    return open_page()


def pixels(page, selector="#result"):
    return page.eval_on_selector(selector, "it => it.toDataURL()")


def refined(page, action):
    """Do something and wait for the picture that comes of it."""
    page.eval_on_selector("#result", "it => { delete it.dataset.quality }")
    action()
    page.wait_for_selector("#result[data-quality=refined]")
    return pixels(page)


def until(page, condition):
    """Wait for a condition in JavaScript; playwright's own way evaluates strings, which the page forbids."""
    deadline = time.monotonic() + TIMEOUT / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def choose(page, side, path):
    page.click(f"#side-{side}")
    page.set_input_files("#picker .file", path)


def test_the_picture_follows_while_a_slider_is_dragged(page):
    before = pixels(page)
    page.evaluate(
        """() => { window.seen = []; const it = document.querySelector("#result");
        it.addEventListener("drawn", ({ detail }) => window.seen.push([detail, it.toDataURL()])); }"""
    )
    box = page.locator(".concept input.blend").first.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 9 + (box["width"] - 18) / 4, y)
    page.mouse.down()
    for part in (0.4, 0.6, 0.8, 0.99):
        count = page.evaluate("window.seen.length")
        page.mouse.move(box["x"] + part * box["width"], y)
        until(page, f"window.seen.length > {count}")
    while_dragging = page.evaluate("window.seen")
    assert {quality for quality, _ in while_dragging} == {"preview"}
    assert len({picture for _, picture in while_dragging}) >= 3
    assert before not in {picture for _, picture in while_dragging}
    after = refined(page, page.mouse.up)
    assert after != before
    assert page.locator(".concept output").first.inner_text() not in ("A", "B")


def test_a_visitor_uploads_a_picture_that_is_read_as_python_reads_it(page, tmp_path, site):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 60, 4), np.uint8), "RGBA")
    picture.save(tmp_path / "mine.png")
    before = pixels(page)
    after = refined(page, lambda: choose(page, "a", tmp_path / "mine.png"))
    assert after != before
    data = page.evaluate(
        """async (bytes) => {
        const { readPicture } = await import("./images.js");
        return [...(await readPicture(new Blob([new Uint8Array(bytes)]), 16, "mine")).data]; }""",
        list((tmp_path / "mine.png").read_bytes()),
    )
    given = np.array(data).reshape(16, 16, 4)[..., :3]
    assert np.abs(given - to_pixels(picture, 16).astype(int)).max() <= 2


def test_a_file_that_is_no_picture_is_named_and_nothing_is_lost(page, tmp_path):
    before = pixels(page)
    (tmp_path / "text.png").write_text("text")
    choose(page, "a", tmp_path / "text.png")
    page.wait_for_selector("#notice:not([hidden])")
    assert "text.png is no picture" in page.inner_text("#notice")
    assert pixels(page) == before
    random_pictures(1, size=30)[0].save(tmp_path / "good.png")
    assert refined(page, lambda: choose(page, "a", tmp_path / "good.png")) != before
    assert page.is_hidden("#notice")


def test_samples_in_the_browser_are_those_of_python(page, tmp_path_factory):
    exported = OnnxPipeline(exported_micro(tmp_path_factory).report.folder, num_threads=1)
    generator = np.random.default_rng(2)
    codes = OnnxCodes(*(generator.standard_normal((1, 3, 6)).astype(np.float32) for _ in range(2)))
    latents = generator.standard_normal((1, 3, 16, 16)).astype(np.float32)
    values = page.evaluate(
        """async ([content, mask, latents]) => {
        const { ModelClient } = await import("./client.js");
        const client = new ModelClient(() => {});
        await client.load({ folder: "models/micro" });
        const codes = { content: Float32Array.from(content), mask: Float32Array.from(mask) };
        return [...(await client.cell(codes, Float32Array.from(latents))).values]; }""",
        [codes.content.ravel().tolist(), codes.mask.ravel().tolist(), latents.ravel().tolist()],
    )
    given = (np.array(values).reshape(3, 16, 16).transpose(1, 2, 0) / 2 + 0.5).clip(0, 1)
    wanted = exported(codes=codes, latents=latents, output_type="np")[0]
    assert -10 * np.log10(np.square(given - wanted).mean()) > 50


def test_the_keyboard_moves_undoes_and_redoes(page):
    start = pixels(page)
    slider = page.locator(".concept input.blend").nth(1)
    slider.focus()
    moved = refined(page, lambda: page.keyboard.press("PageUp"))
    value = slider.input_value()
    assert moved != start
    assert float(value) > 0
    assert refined(page, lambda: page.keyboard.press("Control+z")) == start
    assert slider.input_value() == "0"
    assert refined(page, lambda: page.keyboard.press("Control+Shift+z")) == moved
    assert slider.input_value() == value
    assert refined(page, lambda: page.click("#reset")) == start
    assert page.is_disabled("#reset")


def test_a_link_holds_pictures_and_sliders(page, open_page, tmp_path):
    random_pictures(1, size=30)[0].save(tmp_path / "mine.png")
    refined(page, lambda: choose(page, "b", tmp_path / "mine.png"))
    slider = page.locator(".concept input.blend").nth(2)
    slider.focus()
    refined(page, lambda: page.keyboard.press("End"))
    page.click("summary >> nth=0")
    page.locator("input.direction").first.focus()
    picture = refined(page, lambda: page.keyboard.press("Home"))
    other = open_page(page.url[len(page.evaluate("location.origin")) + 1 :])
    assert pixels(other) == picture
    assert other.locator(".concept input.blend").nth(2).input_value() == "1.5"
    assert other.locator("input.direction").first.input_value() == "-3"


@pytest.mark.parametrize(
    "fragment", ["#model=models/micro&a=99&content=1,x,0", "#model=nowhere&a=1", "#%ff=1&b=data:,x"]
)
def test_a_link_that_fits_nothing_opens_the_page_as_new(open_page, page, fragment):
    assert pixels(open_page(fragment)) == pixels(page)


def test_on_a_phone_the_picture_stays_in_view(open_page):
    page = open_page(width=390, height=844)
    slider = page.locator(".concept").last.locator("input.blend").last
    slider.focus()
    box = page.locator("#result").bounding_box()
    assert box["y"] >= 0
    assert box["width"] > 200
    assert box["y"] + box["height"] < slider.bounding_box()["y"] < 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_pointing_at_a_concept_lights_it_up(page):
    page.hover(".concept >> nth=1 >> .pair")
    assert page.inner_text("#caption") == "Concept 2"
    alpha = page.eval_on_selector("#veil", "it => it.getContext('2d').getImageData(0, 0, 16, 16).data[3]")
    assert alpha > 0
    page.hover("h1")
    until(page, "document.querySelector('#caption').textContent === ''")
    page.hover("#result")
    page.wait_for_selector(".concept.lit")


def test_the_swap_grid_grows_and_a_cell_goes_on_from_there(page):
    page.locator("#grid").scroll_into_view_if_needed()
    until(page, "document.querySelectorAll('.cell.drawn').length === 16")
    cell = pixels(page, ".cell >> nth=6 >> canvas")  # content of the second, masks of the third
    assert refined(page, lambda: page.click(".cell >> nth=6")) == cell
    masks = [page.locator(f".concept >> nth={n} >> input.blend >> nth=1").input_value() for n in range(3)]
    assert masks == ["1", "1", "1"]


def test_surprise_changes_the_picture_and_before_shows_a(page):
    before = pixels(page)
    assert refined(page, lambda: page.click("#surprise")) != before
    edited = pixels(page)
    page.locator("#before").dispatch_event("pointerdown")
    assert pixels(page) == pixels(page, "#side-a canvas")
    page.locator("#before").dispatch_event("pointerup")
    assert pixels(page) == edited


def test_downloads_are_a_picture_and_an_animation(page):
    files = {}
    for name in ("png", "gif"):
        with page.expect_download() as download:
            page.click(f"#{name}")
        files[name] = Image.open(io.BytesIO(download.value.path().read_bytes()))
    assert files["png"].size == (512, 512)
    data = page.eval_on_selector("#result", "it => [...it.getContext('2d').getImageData(0, 0, 16, 16).data]")
    small = np.asarray(files["png"].convert("RGBA").resize((16, 16), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(small.ravel(), data)
    assert files["gif"].size == (256, 256)
    assert files["gif"].n_frames > 10


def own_folder(page, folder):
    page.select_option("#model", "own")
    page.set_input_files("#folder", folder)


def test_a_model_of_ones_own_opens_from_its_folder(page, site, tmp_path):
    shutil.copytree(site / "models" / "micro", tmp_path / "mine")
    edit_description(tmp_path / "mine", knows="my own noise", reconstruction_psnr={"typical": 50, "foreign_below": 40})
    own_folder(page, tmp_path / "mine")
    until(page, "document.querySelector('#knows').textContent.includes('my own noise')")
    page.wait_for_selector("main[aria-busy=false]")
    assert page.is_hidden("#notice")
    assert "Picture A is unlike what this model was trained on" in page.inner_text("#foreign")


def edit_description(folder, **changes):
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "unet.onnx").write_bytes(bytes(3)), "unet.onnx is damaged"),
        (lambda folder: _flip_a_byte(folder / "unet.onnx"), "unet.onnx is damaged"),
        (lambda folder: (folder / "decoder.onnx").unlink(), "no decoder.onnx"),
        (lambda folder: (folder / "model.json").write_text("{"), "model.json is damaged"),
        (lambda folder: edit_description(folder, format_version=99), "format version 99"),
    ],
)
def test_a_model_that_cannot_be_used_is_explained_and_the_former_one_stays(page, site, tmp_path, damage, message):
    before = pixels(page)
    shutil.copytree(site / "models" / "micro", tmp_path / "mine")
    damage(tmp_path / "mine")
    own_folder(page, tmp_path / "mine")
    page.wait_for_selector("#notice:not([hidden])")
    assert message in page.inner_text("#notice")
    assert page.input_value("#model") == "models/micro"
    assert refined(page, lambda: page.click("#surprise")) != before


def _flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_without_webassembly_the_page_says_so(open_page):
    page = open_page(script="delete globalThis.WebAssembly", is_drawn=False)
    page.wait_for_selector("#notice:not([hidden])")
    assert "has no WebAssembly" in page.inner_text("#notice")


def test_a_plain_server_does_on_one_thread(open_page, site):
    class Plain(SimpleHTTPRequestHandler):
        extensions_map = Handler.extensions_map

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Plain, directory=str(site))) as server:
        serving = _serving(server)
        page = open_page(at=next(serving))
        assert "on one thread, as its server does not isolate" in page.inner_text("#environment")
        next(serving, None)


def test_everything_has_a_name_for_screen_readers(page):
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([hidden]), select, canvas[role=img]")]
        .filter((it) => !(it.ariaLabel || it.textContent.trim() || it.labels?.[0]?.textContent.trim()))
        .map((it) => it.outerHTML)"""
    )
    assert nameless == []


def test_no_code_of_python_is_served(site):
    assert not list(site.rglob("*.py"))
    assert NOT_SERVED("", ["fdae_onnx.py"]) == {"fdae_onnx.py"}
