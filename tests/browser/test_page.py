"""What a browser shows of the lab, and that it keeps being true while the page stays open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import DESKTOP, PHONE, Open, resize
from tests.running import Running, primary, wait_until

pytestmark = pytest.mark.journal("nginx@frontend", "backend@backend")
SECONDS = 5.0
"""How soon an open page shows what has changed: the time between two questions, and some for a busy machine."""


def text(view: Any, selector: str) -> str:
    """The visible text of an element, read in one step, since the page changes while it is read."""
    found = view.execute_script("return document.querySelector(arguments[0])?.innerText ?? null", selector)
    assert found is not None, f"the page has no {selector}"
    return str(found).strip()


def texts(view: Any, selector: str) -> list[str]:
    """The visible texts of all elements that match."""
    script = "return [...document.querySelectorAll(arguments[0])].map((element) => element.innerText.trim())"
    return list(view.execute_script(script, selector))


def problem(view: Any) -> str:
    """The headline of the problem that the page tells, empty for none."""
    shown = texts(view, ".problem:not([hidden]) h2")
    assert len(shown) < 2, shown
    return shown[0] if shown else ""


def stay(view: Any) -> Callable[[], bool]:
    """Marks the page; the function that it returns says whether it is still that one, not loaded anew."""
    view.execute_script("window.marked = true")
    return lambda: bool(view.execute_script("return window.marked === true"))


def live(view: Any) -> bool:
    """Whether the script has run, and shows the page as live."""
    return bool(view.execute_script("return document.querySelector('#live:not([hidden])[data-tone=live]') !== null"))


@pytest.fixture
def notes(running: Running) -> Iterator[Callable[[str], int]]:
    """Adds notes through the API and deletes them after the test."""
    made: list[int] = []

    def add(words: str) -> int:
        answer = running.api("notes", "POST", json={"text": words})
        assert answer.status_code == 201, answer.text
        made.append(int(answer.json()["note"]["id"]))
        return made[-1]

    yield add
    for number in made:
        running.api(f"notes/{number}", "DELETE")


def test_the_page_shows_every_instance_and_their_number(running: Running, view: Any) -> None:
    names = running.names("backend")
    wait_until(lambda: live(view), 10, "the page is live")
    assert text(view, "#count") == str(len(names))
    assert sorted(texts(view, "#instances h3")) == sorted(names)
    for machine in running.lab.group("backend"):
        card = text(view, f"#instances [data-name='{machine.name}']")
        assert f"{machine.address}:8443" in card
        assert "Active" in card
        assert "Connected" in card
    versions = [instance["version"] for instance in running.api("instances").json()["instances"]]
    assert texts(view, "#instances [data-is=version]") == versions
    assert text(view, "#answered") in names
    assert text(view, "#way-server") == running.lab.machine(primary(running)).address
    assert problem(view) == ""


def test_the_greeting_is_that_of_vault(running: Running, view: Any) -> None:
    assert text(view, "h1") == running.api("status").json()["greeting"]


def test_a_new_note_appears_and_goes_by_itself(running: Running, view: Any, notes: Callable[[str], int]) -> None:
    same = stay(view)
    number = notes("This came while the page was open")
    wait_until(
        lambda: "This came while the page was open" in texts(view, ".note-text"), SECONDS, "the page shows the note"
    )
    assert "New note" in view.execute_script("return document.getElementById('announce').textContent")
    running.api(f"notes/{number}", "DELETE")
    wait_until(
        lambda: "This came while the page was open" not in texts(view, ".note-text"), SECONDS, "the note has gone"
    )
    assert same()


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_note_is_written_and_deleted_in_the_page(open_page: Open, script: bool) -> None:
    words = f"Written in the page, {'with' if script else 'without'} script <b>&amp; markup</b>"
    view = open_page(script=script)
    field = view.find_element(By.ID, "text")
    field.send_keys(words, Keys.ENTER)

    def shown() -> bool:
        # Without script nothing can be asked of the page but its elements.
        return words in [element.text for element in view.find_elements(By.CSS_SELECTOR, ".note-text")]

    wait_until(shown, SECONDS, "the page shows the note")
    assert view.find_element(By.ID, "text").get_attribute("value") == ""
    row = next(row for row in view.find_elements(By.CSS_SELECTOR, ".note") if words in row.text)
    row.find_element(By.TAG_NAME, "button").click()
    wait_until(lambda: not shown(), SECONDS, "the note has gone")


def test_the_first_view_needs_no_script(running: Running, open_page: Open) -> None:
    view = open_page(script=False)
    assert view.find_element(By.ID, "count").text == str(len(running.names("backend")))
    assert [element.text for element in view.find_elements(By.CSS_SELECTOR, "#instances h3")] == sorted(
        running.names("backend")
    )
    assert not view.find_element(By.ID, "live").is_displayed()


def test_what_is_being_written_survives_refreshing(view: Any, notes: Callable[[str], int]) -> None:
    wait_until(lambda: live(view), 10, "the page is live")
    field = view.find_element(By.ID, "text")
    field.send_keys("half a sen")
    view.execute_script("document.querySelector('#instances li').marked = true")
    notes("Makes the list grow")
    wait_until(lambda: "Makes the list grow" in texts(view, ".note-text"), SECONDS, "the page shows the note")
    assert view.switch_to.active_element == field
    assert field.get_attribute("value") == "half a sen"
    assert view.execute_script("return document.querySelector('#instances li').marked"), "a card was drawn anew"


def test_a_paused_page_asks_no_more(view: Any, notes: Callable[[str], int]) -> None:
    wait_until(lambda: live(view), 10, "the page is live")
    view.find_element(By.ID, "pause").click()
    assert text(view, "#live-word") == "Paused"
    count = "return performance.getEntriesByType('resource').filter((entry) => entry.name.includes('/api/')).length"
    # What was asked before the pause may still come in; then nothing does for twice the interval.
    settle = view.execute_async_script(
        "const [count, done] = arguments; const read = new Function(count);"
        "setTimeout(() => { const first = read(); setTimeout(() => done([first, read()]), 3000); }, 1000);",
        count,
    )
    assert settle[0] == settle[1]
    notes("Written during the pause")
    view.find_element(By.ID, "pause").click()
    wait_until(lambda: "Written during the pause" in texts(view, ".note-text"), SECONDS, "the page goes on")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(open_page: Open, notes: Callable[[str], int], width: int) -> None:
    notes("A-word-without-any-place-to-break-" * 8)
    view = open_page((width, 844))
    wait_until(lambda: live(view), 10, "the page is live")
    assert view.execute_script("return document.documentElement.scrollWidth") <= width


def test_the_console_stays_empty(view: Any, notes: Callable[[str], int]) -> None:
    notes("For the console")
    wait_until(lambda: "For the console" in texts(view, ".note-text"), SECONDS, "the page has refreshed")
    assert view.get_log("browser") == []


def test_everything_has_a_name_for_those_who_do_not_see_it(view: Any, notes: Callable[[str], int]) -> None:
    notes("To be deleted by name")
    wait_until(lambda: "To be deleted by name" in texts(view, ".note-text"), SECONDS, "the page shows the note")
    tree = view.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]
    for role in ("button", "textbox", "link", "heading"):
        names = [name for kind, name in named if kind == role]
        assert names or role == "link", f"the page has no {role}"
        assert all(names), f"a {role} has no name"
    assert ("button", "Delete note: To be deleted by name") in named
    assert ("textbox", "New note") in named
    assert {"banner", "main", "contentinfo"} <= {role for role, _ in named}


def test_https_shows_the_same_page_and_is_verified(running: Running) -> None:
    address = running.lab.group("frontend")[0].address
    answer = requests.get(f"https://{address}/", verify=str(running.lab.authority), timeout=10)
    assert answer.status_code == 200
    assert "HashiStack Lab" in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Server"] == "nginx"
    assert "X-Powered-By" not in answer.headers
    cookie = answer.headers["Set-Cookie"].lower()
    assert all(word in cookie for word in ("__host-", "secure", "httponly", "samesite=strict"))


def test_another_site_changes_nothing(running: Running, address: str) -> None:
    before = running.api("notes").json()["total"]
    assert requests.post(address, data={"text": "forged"}, timeout=10).status_code == 403
    session = requests.Session()
    page = session.get(address, timeout=10).text
    token = page.split('name="form_token" value="')[1].split('"')[0]
    form = {"text": "forged", "form_token": token}
    foreign = {"Origin": "http://elsewhere.example"}
    assert session.post(address, data=form, headers=foreign, timeout=10).status_code == 403
    assert running.api("notes", "POST", json={"text": "forged"}, headers=foreign).status_code == 403
    assert running.api("notes").json()["total"] == before


@pytest.mark.parametrize(
    ("name", "size", "dark"),
    [("page", DESKTOP, False), ("page-dark", DESKTOP, True), ("page-phone", PHONE, False)],
)
def test_pictures(
    open_page: Open,
    pictures: Path,
    notes: Callable[[str], int],
    name: str,
    size: tuple[int, int],
    dark: bool,
) -> None:
    for words in (
        "Every instance writes to the same database.",
        "Change the greeting: vault kv put secret/app greeting=hello",
        "Stop one backend and watch this page: systemctl stop backend",
    ):
        notes(words)
    view = open_page(size, dark)
    wait_until(lambda: live(view) and len(texts(view, ".note-text")) >= 3, 10, "the page shows all")
    height = view.execute_script("return document.documentElement.scrollHeight")
    resize(view, (size[0], max(size[1], height)))
    path = pictures / f"{name}.png"
    assert view.save_screenshot(str(path))
    assert path.stat().st_size > 20_000


@pytest.mark.late(9)
@pytest.mark.timeout(120)
def test_a_stopped_instance_leaves_the_open_page(running: Running, view: Any) -> None:
    names = running.names("backend")
    wait_until(lambda: live(view), 10, "the page is live")
    same = stay(view)
    try:
        running.sh(names[-1], "systemctl stop backend")
        wait_until(lambda: text(view, "#count") == str(len(names) - 1), SECONDS, "the page counts one less")
        wait_until(
            lambda: "Active" not in text(view, f"#instances [data-name='{names[-1]}']"), SECONDS, "its card says so"
        )
    finally:
        running.sh(names[-1], "systemctl start backend")
    wait_until(lambda: text(view, "#count") == str(len(names)), 15, "the page counts it again")
    assert same()


@pytest.mark.late(9)
@pytest.mark.timeout(180)
def test_the_page_says_that_nothing_answers_and_when_it_is_over(running: Running, open_page: Open) -> None:
    names = running.names("backend")
    view = open_page()
    wait_until(lambda: live(view), 10, "the page is live")
    same = stay(view)
    try:
        for name in names:
            running.sh(name, "systemctl stop --no-block backend")
        wait_until(lambda: problem(view) == "No backend instance answers", 30, "the page says it")
        assert text(view, "#count") == "0"
        assert text(view, "#live-word") == "No answer"
        without = open_page(script=False)
        assert "No backend instance answers" in without.find_element(By.TAG_NAME, "main").text
    finally:
        for name in names:
            running.sh(name, "systemctl stop backend; systemctl start backend")
    wait_until(lambda: problem(view) == "" and text(view, "#count") == str(len(names)), 30, "all is shown again")
    assert same()
    running.wait_healthy(30)


@pytest.mark.late(9)
@pytest.mark.timeout(120)
def test_the_page_says_that_nobody_can_write(running: Running, open_page: Open, view: Any) -> None:
    """Also to who only reads."""
    wait_until(lambda: live(view), 10, "the page is live")
    written = []

    def set_read_only(words: str) -> None:
        running.sql(f"ALTER SYSTEM {words}")
        running.sql("SELECT pg_reload_conf()")

    def refused() -> bool:
        answer = running.api("notes", "POST", json={"text": "Nobody reads this"})
        if answer.status_code == 201:  # The server has not read its settings again yet.
            written.append(answer.json()["note"]["id"])
        return answer.status_code == 503

    set_read_only("SET default_transaction_read_only = on")
    try:
        wait_until(refused, 10, "a note is refused")
        wait_until(lambda: problem(view) == "Notes cannot be written", 5, "the page says it")
        assert "Notes cannot be written" in open_page(script=False).find_element(By.TAG_NAME, "main").text
    finally:
        set_read_only("RESET default_transaction_read_only")
        for number in written:
            running.api(f"notes/{number}", "DELETE")
    wait_until(lambda: problem(view) == "", 20, "the message goes away")


@pytest.mark.late(9)
@pytest.mark.timeout(180)
def test_the_page_says_that_the_database_is_away(running: Running, view: Any, notes: Callable[[str], int]) -> None:
    wait_until(lambda: live(view), 10, "the page is live")
    running.each("database", "systemctl stop patroni")
    try:
        wait_until(lambda: problem(view) == "The database does not answer", 20, "the page says it")
        assert text(view, "#count") == str(len(running.names("backend"))), "the instances themselves are well"
        assert text(view, "#way-database") == "Not reachable"
    finally:
        running.each("database", "systemctl start patroni")
    wait_until(lambda: problem(view) == "", 30, "the message goes away")
    running.wait_database(20)
    notes("After the database came back")
    wait_until(lambda: "After the database came back" in texts(view, ".note-text"), SECONDS, "the page goes on")
