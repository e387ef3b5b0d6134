"""How what a client saw is judged, told and kept; and that the client waits for no answer before the next request."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import requests

from tools import running
from tools.failures import __main__ as command
from tools.failures import machines, measure, report
from tools.failures.__main__ import at_pace, chosen, main, verdict
from tools.failures.client import Request, Settings
from tools.failures.faults import FAULTS, new_leader, not_restarted, out_of_memory, within
from tools.failures.machines import machines_of
from tools.failures.measure import judge, not_before_failures, out_of_names, quantile, wait_healed
from tools.failures.scene import NAMES, Asked, Fault, Look, Marks, Scene, Seen, no_more
from tools.failures.watch import Watch
from tools.lab import ROOT, Lab, LabError
from tools.status import BAD, Line

BACKENDS, DATABASES = ["10.0.0.1", "10.0.0.2"], ["10.0.0.9"]


def request(number: int, code: int = 200, seconds: float = 0.01, **more: Any) -> Request:
    """One of 40 in a second; the lab is broken at 100."""
    return Request(number, ("read", "write", "status")[number % 3], 98 + number / 40, seconds, code, **more)


def names(at: float, backends: list[str]) -> tuple[float, dict[str, list[str]]]:
    return at, {"backend.service.consul": backends, "postgresql.service.consul": DATABASES}


def seen(*others: Request, **more: Any) -> Seen:
    """Ten seconds in which all went well, but for these requests."""
    odd = {other.number: other for other in others}
    requests = [odd.get(number) or request(number) for number in range(400)]
    values: dict[str, Any] = {"mended": None, "since": 100, "healed": 101, "names": [names(98, BACKENDS)]}
    return Seen("x", requests, 100, **values | more)


def problems(marks: Marks, what: Seen, victim: bool = False) -> list[str]:
    fault = Fault("x", "x", lambda _scene: None, marks, victim=(lambda _scene: "backend-1") if victim else None)
    return judge(SimpleNamespace(), fault, what)  # type: ignore[arg-type]


def test_what_went_well_holds() -> None:
    assert problems(Marks(p99=0.3, out=2, stays=NAMES, healed=2), seen()) == []


@pytest.mark.parametrize(
    ("marks", "what", "said"),
    [
        (Marks(), seen(request(90, 503, problem="no backend")), "1 requests failed, the first a read at +0.2 s: 503"),
        (Marks(), seen(request(91, 0)), "no answer"),
        (Marks(failed=None), seen(lost=1), "1 acknowledged writes were lost"),
        (Marks(failed=None), seen(doubled=2), "2 were there twice"),
        (
            Marks(p99=0.3),
            seen(*(request(number, seconds=0.4) for number in (100, 110, 120))),
            "p99 was 400 ms, not 300",
        ),
        (Marks(out=2), seen(out=3.2), "its address was in DNS for 3.2 s, not 2"),
        (Marks(out=2), seen(mended=110, since=110, healed=111), "its address never left DNS"),
        (Marks(out=2), seen(healed=104), "its address never left DNS"),
        (
            Marks(stays=NAMES),
            seen(names=[names(98, BACKENDS), names(101, BACKENDS[:1])]),
            "backend.service.consul lost an address",
        ),
        (Marks(), seen(healed=None, looks=[Look(101, "no leader", "", "", 3, frozenset(), "")]), "in 90 s: no leader"),
        (Marks(healed=2), seen(healed=105), "it healed after 5.0 s, not 2: requests failed"),
        (
            Marks(answer=5, serves=2),
            seen(request(200, 503, 0.5)),
            "requests failed until 3.5 s after its return, not 2",
        ),
        (Marks(answer=5, absence=5), seen(request(90, 503)), "1 requests failed before 5 s"),
        (Marks(answer=5, absence=5), seen(request(90, 503, 8)), "1 requests had no 503 in JSON within 5 s"),
        (Marks(answer=5, absence=5), seen(request(90, 503, 5, json=False)), "1 requests had no 503 in JSON within 5 s"),
    ],
)
def test_each_mark_that_does_not_hold_is_said(marks: Marks, what: Seen, said: str) -> None:
    assert any(said in problem for problem in problems(marks, what)), problems(marks, what)


def test_beyond_an_absence_a_503_in_time_is_right() -> None:
    assert problems(Marks(answer=5, absence=5), seen(request(90, 503, 5.0), request(380, 503, 0.1))) == []


@pytest.mark.parametrize(
    ("healthy", "failing", "said"),
    [
        (True, True, ["status was not red 2 s after the break, while 1 requests failed"]),
        (False, False, ["status was red 2 s after the break, while no request failed: Page x: away"]),
        (True, False, []),
        (False, True, []),
    ],
)
def test_status_is_compared_with_what_the_client_saw(healthy: bool, failing: bool, said: list[str]) -> None:
    lines = [] if healthy else [Line("Page", "x", "away", level=BAD)]
    requests = [request(number, 503) for number in (150, 170, 210)] if failing else []
    told = seen(*requests, asked=[Asked(102, 103, healthy, lines)]).mismatches()
    assert [problem.strip() for problem in told] == said


def test_what_fails_first_as_status_is_asked_may_be_told_or_not() -> None:
    assert seen(request(170, 503), request(210, 503), asked=[Asked(102, 103, True, [])]).mismatches() == []


@pytest.mark.parametrize("number", [150, 170])
def test_what_healed_as_status_was_asked_or_just_before_may_be_told_or_not(number: int) -> None:
    for healthy in (True, False):
        assert seen(request(number, 503), asked=[Asked(102, 103, healthy, [])]).mismatches() == []


def test_slow_machines_are_broken_for_longer_than_an_address_may_stay_in_dns() -> None:
    faults = {fault.name: fault for fault in FAULTS}
    for fault in FAULTS:
        assert at_pace(fault, 1) == fault
    assert at_pace(faults["backend-cut"], 5).marks.out == 20
    assert at_pace(faults["backend-cut"], 5).hold == 30
    assert at_pace(faults["vault-away"], 5).hold == faults["vault-away"].hold
    assert at_pace(faults["gunicorn-killed"], 5).hold == 0


def test_the_first_answer_without_the_address_counts() -> None:
    changes = [names(98, BACKENDS), names(101.5, BACKENDS[1:]), names(109, BACKENDS)]
    assert out_of_names(changes, BACKENDS[0], 100) == 1.5
    assert out_of_names(changes, BACKENDS[1], 100) is None


def test_a_machine_that_runs_out_of_memory_is_broken_when_the_kernel_kills() -> None:
    def attempt(_name: str, _command: str, stdin: str | None = None) -> SimpleNamespace:
        return SimpleNamespace(stdout=f"{time.time() - 2}\n" if stdin else "", returncode=0 if stdin else 2)

    scene = SimpleNamespace(instance="backend-1", sh=lambda _name, _command: "7\n8\n", attempt=attempt, broken=0.0)
    out_of_memory(scene)  # type: ignore[arg-type]
    assert time.monotonic() - scene.broken == pytest.approx(2, abs=0.5)


def test_it_has_not_healed_before_the_last_failure_is_answered() -> None:
    requests = seen(request(90, 503, 6)).requests
    assert not_before_failures(101, requests) == request(90).at + 6
    assert not_before_failures(110, requests) == 110
    assert not_before_failures(101, seen().requests) == 101
    assert not_before_failures(None, requests) is None


def test_a_quantile_is_a_value_that_was_seen() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([float(number) for number in range(100)], 0.99) == 99
    assert quantile([], 0.99) == 0


def test_what_must_hold_is_said_in_few_words() -> None:
    def more(_scene: Scene, _seen: Seen) -> list[str]:
        """No backend was restarted."""
        return []

    fault = Fault("x", "x", lambda _scene: None, Marks(answer=5, absence=4.5, serves=2, stays=NAMES), more=more)
    assert report.wanted(fault) == (
        "0 failed in 4.5 s, then 503 within 5 s, serves in 2 s, names stay, no backend was restarted"
    )
    assert report.wanted(FAULTS[0]) == "0 failed, out in 2 s, p99 300 ms"


def test_a_page_keeps_what_was_not_measured_again() -> None:
    page = "# Failures\n<!-- table -->\n<!-- end -->\nMore.\n"
    first = report.merge(page, ["a", "b"], {"b": ("| `b` | old |", ["- `b`, run 1: slow."])}, "Monday")
    second = report.merge(
        first, ["a", "b"], {"a": ("| `a` | new |", ["- `a`, run 2: lost."])}, "Tuesday", "![P](p.svg)"
    )
    assert [line for line in second.splitlines() if "`" in line] == [
        "| `a` | new |",
        "| `b` | old |",
        "- `a`, run 2: lost.",
        "- `b`, run 1: slow.",
    ]
    assert "Tuesday" in second
    assert "Monday" not in second
    assert second.count("![P](p.svg)") == 1
    assert "Not measured yet: `a`." in first
    third = report.merge(second, ["a", "b"], {"b": ("| `b` | well |", [])}, "Wednesday")
    assert "slow" not in third


def test_a_page_has_a_table_for_each_kind_of_machine() -> None:
    page = "<!-- table -->\n<!-- end -->\nMore.\n<!-- table of virtual machines -->\n<!-- end -->\nLast.\n"
    both = report.merge(page, ["a"], {"a": ("| `a` | quick |", [])}, "Monday")
    both = report.merge(both, ["a"], {"a": ("| `a` | slow |", [])}, "Tuesday", table="table of virtual machines")
    containers, _, virtual = both.partition("More.")
    assert "quick" in containers
    assert "slow" not in containers
    assert "slow" in virtual
    assert virtual.endswith("<!-- end -->\nLast.\n")


def test_marks_of_slow_machines_are_longer_times_and_no_more_failures() -> None:
    assert Marks(failed=2, p99=0.5, healed=4, stays=NAMES).slower(5) == Marks(failed=2, p99=2.5, healed=20, stays=NAMES)


def running_lab(kind: str, **groups: int) -> Any:
    """Something like a Running: a lab of a kind, with so many machines in each group."""
    named = [f"{group}-{number}" for group, count in groups.items() for number in range(1, count + 1)]
    lab = SimpleNamespace(kind=kind, name="x", machines=[SimpleNamespace(name=name) for name in named])
    return SimpleNamespace(lab=lab, names=lambda group: [name for name in named if name.startswith(group)])


def test_a_virtual_machine_is_cut_off_at_its_port_of_the_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(machines, "virsh", lambda *_words: "vnet3  network  hl-x  virtio  52:54:00:00:00:01\n")
    monkeypatch.setattr(machines, "nft", lambda rules, *within: given.extend([rules, *within]))
    machines_of(running_lab("terraform")).cut("backend-1", "accept", "drop")
    assert len(given) == 1, "not within the machine's own network, which this computer does not have"
    assert 'hook forward priority -10; oifname { "vnet3" } accept; iifname { "vnet3" } drop;' in given[0]
    assert 'hook output priority -10; oifname { "vnet3" } accept; }' in given[0]
    assert 'hook input priority -10; iifname { "vnet3" } drop; }' in given[0]


def test_faults_are_those_that_the_lab_has_machines_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "pace", 5)
    small = {fault.name for fault in chosen(running_lab("vagrant", control=1, database=1, backend=2), [])}
    assert {"backend-killed", "database-cut"} <= small
    assert not {"consul-leader", "switchover"} & small
    full = {fault.name for fault in chosen(running_lab("vagrant", control=3, database=2, backend=2), [])}
    assert {"consul-leader", "switchover", "primary-and-leader"} <= full
    one = chosen(running_lab("vagrant", control=3, database=1, backend=2), ["consul-leader"])
    assert [(fault.name, fault.marks.p99) for fault in one] == [("consul-leader", 2.5)]
    with pytest.raises(LabError, match="needs two backends"):
        chosen(running_lab("vagrant", control=1, backend=1), [])
    with pytest.raises(LabError, match="it must be this one"):
        chosen(running_lab("other", control=1, backend=2), [])


def test_a_lab_that_stands_is_broken_only_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which .lab/env, read into the shell an hour ago, is no word for."""
    monkeypatch.setenv("LAB_NAME", "terraform")
    with pytest.raises(SystemExit):
        main(["--inventory", str(ROOT / "inventories" / "terraform")])
    assert "BREAK=NAME" in capsys.readouterr().err


def test_a_lab_in_use_is_not_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Two runs at once would each mend what the other breaks."""
    monkeypatch.setenv("LAB_NAME", "busy")
    monkeypatch.setattr(running, "pace", 1)
    monkeypatch.setattr(command, "load", lambda _sources: Lab("busy", tmp_path, "terraform", "", "", ()))
    code = (
        "import sys\nfrom plugins.module_utils.lab_owner import hold\n"
        f"hold('busy', {str(tmp_path)!r})\nprint(flush=True)\nsys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with other:
        assert other.stdout
        other.stdout.readline()
        assert main(["--inventory", str(ROOT / "inventories" / "terraform"), "--break", "busy"]) == 2
    assert "Lab 'busy' is in use since" in capsys.readouterr().err


def test_the_client_comes_when_what_prepares_the_lab_has_left_it_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three requests failed once that came while PostgreSQL was not yet back from its move to a small disk."""
    looks = ["no database", "no database", ""]
    watch = SimpleNamespace(look=lambda: SimpleNamespace(problem=looks.pop(0)))

    def load(_settings: Settings) -> None:
        raise KeyboardInterrupt(f"the client came, and {looks} were to come")

    monkeypatch.setattr(running, "pace", 1)
    monkeypatch.setattr(measure, "Watch", lambda _scene: nullcontext(watch))
    monkeypatch.setattr(measure, "Names", lambda *_of: SimpleNamespace(stop=list))
    monkeypatch.setattr(measure, "Load", load)
    monkeypatch.setattr("tools.status.collect", lambda _lab: [])
    lab = Lab("x", tmp_path, "containers", "", "", ())
    scene = SimpleNamespace(lab=lab, names=lambda _group: ["frontend-1"], page="https://192.0.2.1")
    with pytest.raises(KeyboardInterrupt, match=re.escape("and [] were to come")):
        measure.run(scene, Fault("x", "x", lambda _scene: None, Marks()))  # type: ignore[arg-type]


def test_a_dead_machine_makes_looks_no_rarer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Vault that was active after 4.0 s was seen after 5.0: each look had waited a second for the dead one."""
    monkeypatch.setattr(running, "pace", 1)
    watch = Watch(SimpleNamespace(lab=Lab("x", tmp_path, "containers", "", "", ())))  # type: ignore[arg-type]
    watch.session.verify = True
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.create_connection(deaf.getsockname()):
        machine, port = SimpleNamespace(address="127.0.0.1"), deaf.getsockname()[1]

        def look() -> Look:
            at = time.monotonic()
            with pytest.raises(requests.ConnectTimeout):
                watch.get(machine, port, "")  # type: ignore[arg-type]
            return Look(at, "", "", "", 0, frozenset(), "")

        monkeypatch.setattr(watch, "look", look)
        with watch:
            time.sleep(2.8)
    starts = [look.at for look in watch.looks]
    assert max(later - sooner for sooner, later in pairwise(starts)) < 0.7, starts


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("control-1", "control-2", []),
        ("control-1", "control-1", ["a new leader came never, not within 5 s"]),
        ("", "control-1", ["a new leader came never, not within 5 s"]),
    ],
)
def test_whoever_leads_is_another_one_only_if_it_is_known_who_led(before: str, after: str, said: list[str]) -> None:
    looks = [Look(at, "", leader, "", 3, frozenset(), "") for at, leader in ((99, before), (101, after))]
    assert new_leader(SimpleNamespace(), seen(before=looks[0], looks=looks[1:])) == said  # type: ignore[arg-type]


def test_a_line_counts_all_runs() -> None:
    line = report.row(FAULTS[0], [seen(), seen(request(90, 503), healed=104, out=1.5, problems=["no"])])
    assert line.split(" | ")[2:] == [
        "2",
        "800",
        "1",
        "0",
        "10 ms",
        "10 ms",
        "10 ms",
        "1.5 s",
        "2.5 s",
        "4.0 s",
        "0 failed, out in 2 s, p99 300 ms",
        "1 of 2 |",
    ]


@pytest.mark.parametrize(("age", "said"), [(9.0, []), (3.0, ["backend-1 was restarted"])])
def test_an_instance_that_is_young_was_restarted_only_if_it_is_younger_than_the_break(
    age: float, said: list[str]
) -> None:
    five_seconds_ago = seen()
    five_seconds_ago.broken = time.monotonic() - 5
    told = {"backend-1": f"1000.00 9.00\n{(1000 - age) * 1e6:.0f}\n", "backend-2": "1000.00 9.00\n100000\n"}
    scene = SimpleNamespace(names=lambda _group: list(told), sh=lambda name, _command: told[name])
    assert not_restarted(scene, five_seconds_ago) == said  # type: ignore[arg-type]


def test_a_mark_that_nothing_holds_is_shown_and_is_no_surprise(capsys: pytest.CaptureFixture[str]) -> None:
    hung = next(fault for fault in FAULTS if fault.missed)
    late = [request(80 + number, seconds=7.0) for number in range(20)]
    known = seen(*late, out=1.0)
    known.problems = judge(SimpleNamespace(), hung, known)  # type: ignore[arg-type]
    assert known.problems == ["p99 was 7000 ms, not 300"]
    assert report.row(hung, [known]).endswith("| no, as known |")
    assert verdict([hung], {hung.name: [known]})
    assert "1 missed only a mark that is known not to hold" in capsys.readouterr().out
    worse = dataclasses.replace(known, problems=[*known.problems, "its address never left DNS"])
    assert report.row(hung, [worse]).endswith("| no |")
    assert not verdict([hung], {hung.name: [known, worse]})
    slower = dataclasses.replace(known, problems=["p99 was 8000 ms, not 300"])
    assert not verdict([hung], {hung.name: [slower]})


def looks(*problems: str) -> list[Look]:
    """One in a second, from the break on."""
    return [Look(100 + number, problem, "", "", 3, frozenset(), "") for number, problem in enumerate(problems)]


@pytest.mark.parametrize("healed", [105, None])
@pytest.mark.parametrize(
    ("after", "unheard", "surprising"),
    [
        ("check failing: backend-1 it answers; the page does not show all backends as active", True, False),
        ("check failing: backend-1 it answers", False, True),
        ("check failing: backend-1 it answers; Consul has no leader", True, True),
        ("check failing: backend-1 it answers; check failing: backend-2 it answers", True, True),
    ],
    ids=["only its report was lost", "its agent says so too", "and no leader", "another one fails as well"],
)
def test_a_report_that_consul_has_lost_is_known_where_nothing_else_is_wrong(
    after: str, unheard: bool, surprising: bool, healed: int | None
) -> None:
    lost = ["backend-1 it answers"] if unheard else []
    told = seen(healed=healed, looks=looks("anything", "anything", after, after), unheard=lost)
    told.problems = problems(Marks(healed=2), told)
    assert len(told.problems) == 1
    assert bool(FAULTS[0].surprises(told)) == surprising, told.problems


def test_requests_that_fail_for_long_are_no_lost_report() -> None:
    told = seen(request(200, 503), healed=105, looks=looks(*["check failing: x y"] * 4), unheard=["x y"])
    told.problems = problems(Marks(failed=None, healed=2), told)
    assert FAULTS[0].surprises(told) == ["it healed after 5.0 s, not 2: check failing: x y"]


@pytest.mark.parametrize(
    ("left", "until", "surprising"),
    [(BACKENDS[:1], 121.0, False), (BACKENDS[:1], 125.0, True), ([], 121.0, True)],
    ids=["one address for a moment", "one address for longer", "every address"],
)
def test_only_one_address_for_a_moment_is_known(left: list[str], until: float, surprising: bool) -> None:
    cut = next(fault for fault in FAULTS if fault.name == "database-cut")
    told = seen(names=[names(98, BACKENDS), names(120.5, left), names(until, BACKENDS)])
    told.problems = judge(SimpleNamespace(), dataclasses.replace(cut, more=no_more), told)  # type: ignore[arg-type]
    assert len(told.problems) == 1
    assert bool(cut.surprises(told)) == surprising, told.problems


@pytest.mark.parametrize(
    ("name", "seconds", "surprising"),
    [
        ("switchover", 2.2, False),
        ("switchover", 2.6, True),
        ("switchover", 12.2, True),
        ("switchover", None, True),
        ("replica-killed", 2.2, False),
        ("replica-killed", 2.3, True),
        ("primary-killed", 9.2, True),
    ],
)
@pytest.mark.parametrize("what", ["a write", "the slowest answer to one"])
def test_only_a_little_more_than_two_seconds_of_a_write_is_known(
    what: str, name: str, seconds: float | None, surprising: bool
) -> None:
    fault = next(fault for fault in FAULTS if fault.name == name)
    told = seen()
    told.problems = within(what, seconds, 2)
    assert bool(fault.surprises(told)) == surprising, told.problems


@pytest.mark.parametrize(("last_look", "healed"), [(-1.0, False), (1.0, False), (2.5, True)])
def test_it_has_healed_when_a_look_says_so_that_is_younger_than_the_break(last_look: float, healed: bool) -> None:
    broken = time.monotonic() - 5
    watch = SimpleNamespace(well=lambda: (broken - 10, broken + last_look), ask_agents=lambda: None)
    load = SimpleNamespace(requests=[], failures=lambda: 0)
    fault = dataclasses.replace(FAULTS[0], patience=0.5)
    scene = SimpleNamespace(since=broken)
    found = wait_healed(scene, fault, watch, load, lambda _words: None)  # type: ignore[arg-type]
    assert found == (broken if healed else None)


def test_the_picture_has_a_point_for_each_request() -> None:
    root = ElementTree.fromstring(report.picture(FAULTS[0], seen(request(90, 503), out=1.5)))
    points = [point.get("class") for point in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(points) == 400 + 4
    assert points.count("failed") == 1 + 1
    words = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [word for word in words if word.endswith(" s") and "," in word] == [
        "broken, 0.0 s",
        "out of DNS, 1.5 s",
        "as before, 1.0 s",
    ]


def test_each_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert any(fault.quick for fault in FAULTS)


@pytest.fixture
def slow_server() -> Iterator[str]:
    """A server that lets each read wait for two seconds, and refuses each status with a page of HTML."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if "notes" in self.path:
                time.sleep(2)
            self.answer(200 if "notes" in self.path else 502)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(201)

        def answer(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json" if code < 300 else "text/html")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_the_client_ends_with_its_input(slow_server: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.failures.client"],
        input=json.dumps(dataclasses.asdict(Settings(slow_server, "", "test", 30, 3000))) + "\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=ROOT,
    )
    assert len(done.stdout.splitlines()) < 10


def test_the_client_keeps_its_rate_whatever_answers_take(slow_server: str) -> None:
    settings = Settings(slow_server, "", "test", 30, 30)
    with subprocess.Popen(
        [sys.executable, "-m", "tools.failures.client"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdin
        assert process.stdout
        print(json.dumps(dataclasses.asdict(settings)), file=process.stdin, flush=True)
        told = sorted((Request(**json.loads(line)) for line in process.stdout), key=lambda one: one.number)
    assert [one.number for one in told] == list(range(30))
    assert told[-1].at - told[0].at == pytest.approx(29 / 30, abs=0.01)
    assert max(one.end for one in told) - told[0].at < 15  # one read after the other would take 20 s
    by_kind = {kind: [one for one in told if one.kind == kind] for kind in ("read", "write", "status")}
    assert all(one.good and one.seconds >= 2 for one in by_kind["read"])
    assert all(one.code == 201 for one in by_kind["write"])
    assert all(one.code == 502 and not one.good and not one.json for one in by_kind["status"])
