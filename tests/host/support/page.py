"""The host's page in a browser: where things are on it, and what a user does with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from motion.settings.tab import TAB_FIELDS

from .models import MODULE
from .webui import QUICK

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SCREENSHOTS = "SD_WEBUI_SCREENSHOTS"
"""The environment variable that names a folder for pictures of the page."""
SECONDS = 120_000
"""Milliseconds that anything on the page may take."""

SOON = 5_000

LABEL = "Motion"
TABS = {"txt2img": "#tab_txt2img", "img2img": "#tab_img2img"}
MOTION = ".input-accordion:has(> .label-wrap:has-text('{label}'))"
FIELD = "[data-testid=block-info]:text-is('{label}')"
BLOCK = "xpath=ancestor::*[contains(concat(' ', @class, ' '), ' block ')][1]"
MOVING = "img[src*='.gif'], img[src*='.webp'], img[src*='.apng'], video"


@contextmanager
def browser_page(url: str) -> Iterator[WebuiPage]:
    """The page, loaded. It gets nothing but from the host."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1800})
        page.set_default_timeout(SECONDS)
        shown = WebuiPage(page, url)
        page.route("**/*", shown.admit)
        page.on("pageerror", lambda error: shown.errors.append(str(error)))
        shown.load()
        yield shown
        browser.close()


@dataclass
class WebuiPage:
    """One tab of the page, txt2img unless `go` has changed it."""

    page: Page
    url: str
    tab: str = "txt2img"
    errors: list[str] = field(default_factory=list)
    """What scripts of the page raised."""

    def admit(self, route: Route) -> None:
        """Let only the host's own addresses through: the tests need no network, and wait for none."""
        local = route.request.url.startswith((self.url, "data:", "blob:"))
        route.continue_() if local else route.abort()

    def load(self, theme: str = "") -> None:
        self.page.goto(f"{self.url}/?__theme={theme}" if theme else self.url)
        self.page.wait_for_selector(f"#{self.tab}_generate", state="visible")
        self.page.wait_for_function(
            "() => typeof uiCurrentTab !== 'undefined' && gradioApp().querySelector('#quicksettings')"
        )

    def go(self, tab: str) -> None:
        self.page.click(f"#tabs > .tab-nav button:has-text('{tab}')")  # Forge writes them with a capital
        self.arrive(tab)

    def arrive(self, tab: str) -> None:
        """Wait until the page itself has gone to a tab."""
        self.tab = tab
        self.page.wait_for_selector(f"#{tab}_generate", state="visible")

    def drop_into_png_info(self, file: Path) -> None:
        """Show the PNG Info tab, and in it what the file says about itself."""
        self.page.click("#tabs > .tab-nav button:has-text('PNG Info')")
        self.page.locator("#pnginfo_image input[type=file]").set_input_files(file)
        self.page.locator("#tab_pnginfo", has_text="Steps: ").wait_for(state="visible")

    def send_from_png_info(self, tab: str) -> None:
        self.page.click(f"#tab_pnginfo #{tab}_tab")
        self.arrive(tab)
        self.page.wait_for_timeout(2000)

    def send_to_img2img(self) -> None:
        """The picture that is chosen in the results."""
        self.click("send_to_img2img")
        self.arrive("img2img")
        self.page.wait_for_timeout(2000)

    def requests(self, seconds: float) -> list[str]:
        """What the page asks of the host's functions in a while in which nothing is done."""
        seen: list[str] = []
        self.page.on("request", lambda request: seen.append(request.url))
        self.page.on("websocket", lambda socket: seen.append(socket.url))
        self.page.wait_for_timeout(1000 * seconds)
        return seen

    @property
    def motion(self) -> Locator:
        """The accordion; its own state is the Enable setting."""
        return self.page.locator(TABS[self.tab]).locator(MOTION.format(label=LABEL)).first

    @property
    def enabled(self) -> bool:
        return self.motion.locator(".label-wrap input[type=checkbox]").is_checked()

    def enable(self, wanted: bool = True) -> None:
        if self.enabled != wanted:
            self.motion.locator("> .label-wrap > span").first.click()
            self.page.wait_for_timeout(300)

    def unfold(self, label: str) -> None:
        """Open the part of the accordion that is called so."""
        self.motion.locator(".label-wrap", has_text=label).last.click()
        self.page.wait_for_timeout(300)

    def element(self, name: str) -> Locator:
        """A part of the accordion that is no setting, by what the page calls it: `notes`, `preset_save` ..."""
        return self.page.locator(f"[id='script_{self.tab}_motion_{name}']").first

    @property
    def windows(self) -> Locator:
        """The steps in the picture of the windows."""
        return self.motion.locator("svg[role=img] g")

    def block(self, name: str) -> Locator:
        """The block of the setting `name` (of the field table)."""
        return self.motion.locator(FIELD.format(label=TAB_FIELDS[name].label)).locator(BLOCK)

    def value(self, name: str) -> str:
        return self.block(name).locator("input, textarea").first.input_value()

    def chosen(self, name: str) -> str:
        """The label of the choice that is made; of several, with commas between."""
        made = self.block(name).locator("label:has(input:checked), .token")
        return ", ".join(text.strip() for text in made.all_inner_texts())

    def choose(self, name: str, choice: str) -> None:
        """Choose from a dropdown. Where the host fills it anew meanwhile, its list closes and is opened again."""
        from playwright.sync_api import TimeoutError

        box, option = self.block(name).locator("input").first, self.page.locator("ul.options li", has_text=choice).first
        for _ in range(SECONDS // SOON):
            box.blur()
            box.click()
            with suppress(TimeoutError):
                return option.click(timeout=SOON)
        raise AssertionError(f"the list of {name} did not stay open for {choice}")

    def write(self, name: str, choice: str) -> None:
        """Type into a dropdown."""
        box = self.block(name).locator("input").first
        box.fill(choice)
        box.press("Enter")

    def fill(self, name: str, value: object) -> None:
        """Type into a number or text."""
        self._type(self.block(name).locator("input, textarea").first, value)

    @property
    def loras_text(self) -> str:
        """What the rows of motion LoRAs write."""
        return self.element("loras").locator("textarea").input_value()

    @property
    def strip(self) -> Locator:
        """The strip of key frames."""
        return self.motion.locator(".motion-strip")

    @property
    def keys(self) -> Locator:
        """The card of each key frame."""
        return self.strip.locator("li.motion-key")

    def add_keys(self, *pictures: Path) -> None:
        """Choose files for the strip, and wait until it shows them."""
        shown = self.keys.count()
        self.strip.locator("input[type=file]").set_input_files(pictures)
        self.keys.nth(shown + len(pictures) - 1).wait_for(state="visible")
        self.settle_keys()

    def settle_keys(self) -> None:
        """Wait until the strip shows what was done last."""
        self.motion.locator(".motion-strip[aria-busy=false]").wait_for(state="visible")

    def key_values(self, part: str) -> list[str]:
        """What the cards say: `frame`, `strength` or `encoder` of each."""
        return [box.input_value() for box in self.keys.locator(f"[data-part={part}]").all()]

    def key_pictures(self) -> list[str]:
        """The digits of the images on the cards."""
        return [(image.get_attribute("src") or "").rpartition("/")[2] for image in self.keys.locator("img").all()]

    def host_fill(self, name: str, value: object) -> None:
        """Type into a field of the host: `prompt`, `steps`, `width` ..."""
        inputs = "textarea, input[type=number]"
        self._type(self.page.locator(f"#{self.tab}_{name}").locator(inputs).first, value)

    def host_value(self, name: str) -> str:
        return self.page.locator(f"#{self.tab}_{name}").locator("textarea, input[type=number]").first.input_value()

    def _type(self, box: Locator, value: object) -> None:
        box.fill(str(value))
        box.press("Tab")

    def click(self, name: str) -> None:
        """Press a button of the host: `generate`, `interrupt` ..."""
        self.page.locator(f"#{self.tab}_{name}").click()

    def generate(self) -> None:
        """Generate, and wait until that has ended; what was drawn before may be in sight."""
        self.click("generate")
        self.page.locator(f"#{self.tab}_interrupt").wait_for(state="visible")
        self.finished()

    def paste(self) -> None:
        """Read the last generation's parameters into the page; from the prompt, if there is one."""
        self.page.locator(f"#{self.tab}_tools #paste").click()
        self.page.wait_for_timeout(2000)

    def finished(self) -> None:
        """Wait until the job has ended and the page says how long it took."""
        self.page.locator(f"#{self.tab}_results .performance").wait_for(state="visible")
        for button in ("interrupt", "interrupting"):
            self.page.locator(f"#{self.tab}_{button}").wait_for(state="hidden")

    @property
    def clips(self) -> Locator:
        """What moves in the results."""
        return self.page.locator(f"#{self.tab}_results").locator(MOVING)

    def photograph(self, name: str) -> None:
        """Save a picture of the page where the environment asks for it."""
        if folder := os.environ.get(SCREENSHOTS):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def prepare(page: WebuiPage, **host: object) -> None:
    """A quick clip, ready to be generated."""
    for name, value in {"prompt": QUICK["prompt"], "steps": 3, "seed": 5, **host}.items():
        page.host_fill(name, value)
    page.enable()
    page.choose("module", MODULE)
