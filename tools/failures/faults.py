"""What is broken, each in a few lines: what breaks, what mends it, and what must hold.

A new one is a `Fault` in `FAULTS`. What it does are commands that an administrator would give; `scene.Scene` has
those that are given to a whole machine (`kill`, `start`, `cut`, `join`, `reboot`). What a fault leaves behind when a
run is killed, or does not heal, `rescue` puts right.
"""

from __future__ import annotations

import datetime
import itertools
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tools import running
from tools.failures.certificates import authority_key, issued, of_a_stranger
from tools.failures.scene import BACKEND_NAME, NAMES, Fault, Look, Marks, Scene, Seen
from tools.lab import ROOT
from tools.running import active, leader, wait_until
from tools.status import GOOD

SERVICE_FILE = "/run/secrets/pg_service.conf"
CERTIFICATE_FILE = "/etc/nginx/tls/nginx.pem"
POSTGRESQL = "patroni"
NO_FAILURE = Marks()
GUNICORN = Marks(out=2, p99=0.3)
MACHINE = Marks(out=4, p99=0.5)
CONSUL = Marks(stays=NAMES, p99=0.5)
# Without its database each instance goes on to be named. A request waits for it for 4.5 s, so that its answer is there
# within 5: what is away for longer fails those that came first.
DATABASE = Marks(answer=5, absence=4.5, stays=(BACKEND_NAME,), serves=2)
FAILOVER = Marks(answer=5, absence=4.5, stays=(BACKEND_NAME,), healed=30)
CREDENTIALS = Marks(answer=5, stays=NAMES, healed=5)
CERTIFICATE = Marks(out=2, p99=0.5, healed=5)
# In nft's words, since few kernels of containers have tc's netem.
LOSS = "numgen random mod 100 < 5 drop"

# Takes memory until the kernel kills one of the processes that are named, which it must do first; and says when it has.
HOG = """
import os, sys, time
victims = sys.argv[1:]
for pid in victims:
    open(f"/proc/{pid}/oom_score_adj", "w").write("1000")
held = []
while len(held) < 120 and all(os.path.exists(f"/proc/{pid}") for pid in victims):
    held.append(b"x" * (16 << 20))
    held[-1] = bytearray(held[-1])
print(time.time())
"""

# 200 connections that say no more than half of a request, 2,000 requests in a second, and bodies that are cut off.
NUISANCE = """
import concurrent.futures, socket, ssl, sys, time
address = sys.argv[1]
trusting = ssl._create_unverified_context()
def connect():
    return trusting.wrap_socket(socket.create_connection((address, 443), 5))
stalled = []
for number in range(200):
    try:
        stalled.append(socket.create_connection((address, 80), 5))
        stalled[-1].send(b"GET /api/status HTTP/1.1\\r\\nHost: x\\r\\n")
    except OSError:
        pass
def many(count):
    try:
        with connect() as kept:
            for number in range(count):
                kept.send(b"GET /api/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                kept.recv(65536)
    except OSError:
        pass
def cut(number):
    try:
        with connect() as kept:
            kept.send(b"POST /api/notes HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 99\\r\\n\\r\\n{")
    except OSError:
        pass
with concurrent.futures.ThreadPoolExecutor(20) as pool:
    for _ in range(20):
        pool.submit(many, 100)
    list(pool.map(cut, range(50)))
time.sleep(3)
"""


# What breaks ----------------------------------------------------------------------------------------------------------


def kill_postgresql(scene: Scene) -> None:
    """Kill it, and not Patroni; from its return on all can heal, or from another's taking over."""
    name = scene.database
    scene.sh(name, "pkill -KILL -x postgres")
    if len(scene.names("database")) == 1:
        returns = "until runuser -u postgres -- psql -qc '' 2>/dev/null; do sleep 0.1; done"
        scene.sh(name, returns, timeout=60 * running.pace)


def kill_replica(scene: Scene) -> None:
    """Kill the machine of a replica."""
    first = scene.database
    scene.kill(next(name for name in scene.names("database") if name != first))


def kill_leader_and_primary(scene: Scene) -> None:
    """Kill Consul's leader's machine and the primary's, at once."""
    scene.kill(wait_until(lambda: leader(scene), 10, "Consul has a leader"), scene.database)


def out_of_memory(scene: Scene) -> None:
    """Let memory run out, and gunicorn be what the kernel kills: its unit's, where the kernel can limit a unit's.

    Elsewhere the machine's. An emulated one had not killed anything after a minute: without swap it reads its programs
    from the disk again and again first.
    """
    folder = "/sys/fs/cgroup/system.slice/backend.service"
    pids = scene.sh(
        scene.instance, f"cat $(find {folder} {folder.replace('cgroup', 'cgroup/systemd')} -name cgroup.procs)"
    ).split()
    if scene.attempt(scene.instance, f"test -e {folder}/memory.max").returncode == 0:
        # It comes back with its own limit, since its unit says nothing of this one.
        scene.sh(scene.instance, f"echo 0 > {folder}/memory.max")
    else:
        said = scene.attempt(scene.instance, "python3 - " + " ".join(pids), stdin=HOG)
        killed = float(said.stdout or time.time())  # The kernel may have killed it as well.
        scene.broken = time.monotonic() - (time.time() - killed)
    alive = scene.attempt(scene.instance, "ls -d " + " ".join(f"/proc/{pid}" for pid in pids)).returncode == 0
    assert not alive, "the kernel killed nothing of gunicorn's: is the machine's memory limited?"


def next_release(scene: Scene) -> Path:
    """The backend's folder with a version of its own."""
    folder = scene.lab.directory / "next-release"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "app" / "backend" / "src", folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "lab_backend" / "__init__.py"
    file.write_text(
        re.sub(r'(__version__ = ").*"', r'\g<1>99.0.0"', file.read_text(encoding="utf-8")), encoding="utf-8"
    )
    return folder


def release_next(scene: Scene) -> None:
    """Bring a new release to all backends, as an upgrade does."""
    scene.playbook("site.yml", "--tags", "backend", "-e", f"backend_source={next_release(scene)}").require()


def release_back(scene: Scene) -> None:
    """Bring the project's own back."""
    scene.playbook("site.yml", "--tags", "backend").require()


def kill_leader(scene: Scene) -> None:
    """Kill the machine of Consul's leader."""
    scene.kill(wait_until(lambda: leader(scene), 10, "Consul has a leader"))


def kill_follower(scene: Scene) -> None:
    """Kill the machine of a server that does not lead."""
    first = wait_until(lambda: leader(scene), 10, "Consul has a leader")
    scene.kill(next(name for name in scene.names("control") if name != first))


def kill_active_vault(scene: Scene) -> None:
    """Kill the machine of Vault's active node."""
    scene.kill(wait_until(lambda: active(scene), 10, "Vault has an active node"))


def seal_all(scene: Scene) -> None:
    """Seal Vault as an operator does: the active node, and the next one, until those that are left have no quorum."""
    for _ in range(len(scene.names("control")) // 2 + 1):
        name = wait_until(lambda: active(scene), 30, "another node is active")
        scene.lab.vault(scene.lab.machine(name)).sys.seal()


def start_vault_again(scene: Scene) -> None:
    """What `make status` says of a sealed node."""
    scene.each("control", "systemctl restart vault")


def all_machines(scene: Scene) -> list[str]:
    """The names of all machines."""
    return [machine.name for machine in scene.lab.machines]


def revoke_all(scene: Scene) -> None:
    """`vault lease revoke -prefix database/creds/`."""
    scene.lab.vault(timeout=30).sys.revoke_prefix("database/creds/")


def drop_role(scene: Scene) -> None:
    """Drop the user of one backend by hand."""
    user = scene.sh(scene.instance, f"sed -n '/^user=/{{s///p;q}}' {SERVICE_FILE}").strip()
    scene.sql(f'DROP ROLE "{user}"')


def restore_dump(scene: Scene) -> None:
    """Put a dump of the database back, on a server that does not know the users whom Vault has made since."""
    scene.sh(
        scene.database,
        "set -e; pg_dump -U postgres -Fc lab > /var/tmp/lab.dump;"
        " psql -U postgres -qc 'DROP DATABASE lab WITH (FORCE)';"
        " pg_restore -U postgres -C -d postgres /var/tmp/lab.dump; rm /var/tmp/lab.dump;"
        " psql -U postgres -XAtqc \"SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname LIKE 'v-%'\""
        " | psql -U postgres -q",
    )


def half_a_file(scene: Scene) -> None:
    """Leave half of the service file, as something that writes it in place would."""
    scene.sh(scene.instance, f'f={SERVICE_FILE}; half=$(head -c 60 $f); echo "$half" > $f')


def cut_from_control(scene: Scene) -> None:
    """Cut one backend off from the control machines alone."""
    addresses = ", ".join(machine.address for machine in scene.lab.group("control"))
    scene.cut(scene.instance, f"ip saddr {{ {addresses} }} drop", f"ip daddr {{ {addresses} }} drop")


def nuisance(scene: Scene) -> None:
    """Be a client that is a nuisance, from another machine than the good client."""
    address = scene.lab.group("frontend")[0].address
    scene.sh(scene.names("control")[-1], f"python3 - {address}", stdin=NUISANCE, timeout=120)


def fill(scene: Scene, name: str, folder: str) -> None:
    """Leave no room in the file system of a folder."""
    scene.sh(name, f"mountpoint -q {folder} && cd {folder} && fallocate -l $(df --output=avail -B1 . | tail -1) filler")


def small_run(scene: Scene) -> None:
    """Let a backend's /run have little room; it is memory, of which all of the machine's could be filled."""
    scene.sh(scene.instance, "mount -o remount,size=32m,nr_inodes=4096 /run")


def no_inodes(scene: Scene) -> None:
    """Take each inode of a backend's /run."""
    scene.sh(scene.instance, "mkdir -p /run/filler && cd /run/filler && seq 5000 | xargs touch 2>/dev/null || true")


def roomy_run(scene: Scene) -> None:
    """Give a backend's /run its room again."""
    scene.sh(scene.instance, "rm -rf /run/filler; mount -o remount,size=20%,nr_inodes=800k /run")


def small_log(scene: Scene) -> None:
    """Give Vault's active node a disk of its own for its log, a small one."""
    mount = "mount -t tmpfs -o size=4m,mode=750,uid=$(id -u vault),gid=$(id -g vault) tmpfs /var/log/vault"
    scene.sh(active(scene), f"{mount} && systemctl reload vault")


def roomy_log(scene: Scene) -> None:
    """Take it away."""
    command = "! mountpoint -q /var/log/vault || { umount -l /var/log/vault && systemctl restart vault; }"
    scene.each("control", command)


def small_data(scene: Scene) -> None:
    """Move PostgreSQL's data to a small disk, on each machine: which one is the primary changes by it."""
    scene.each(
        "database",
        "set -e; data=$(psql -U postgres -XAtqc 'SHOW data_directory'); echo $data > /run/small-data;"
        " mount -t tmpfs -o size=$(($(du -sm $data | cut -f1) + 128))m tmpfs /mnt; systemctl stop patroni;"
        " cp -a $data/. /mnt/; chown --reference=$data /mnt; chmod --reference=$data /mnt;"
        " mount --bind /mnt $data; systemctl start patroni",
        timeout=120,
    )
    wait_for_primary(scene)


def roomy_data(scene: Scene) -> None:
    """Move it back. What it replaces goes when the copy is whole, so that it may be cut off anywhere and run again."""
    scene.each(
        "database",
        "set -e; test -e /run/small-data || exit 0; data=$(cat /run/small-data); systemctl stop patroni;"
        " if mountpoint -q $data; then rm -rf $data.new; cp -a /mnt $data.new; umount $data; fi;"
        " if test -d $data.new; then rm -rf $data; mv $data.new $data; fi;"
        " ! mountpoint -q /mnt || umount /mnt; rm /run/small-data; systemctl start patroni",
        timeout=120,
    )
    wait_for_primary(scene)


def wait_for_primary(scene: Scene) -> None:
    """Wait until the database has a primary again: all its machines stood still at once."""
    wait_until(lambda: scene.sql("SELECT pg_is_in_recovery()") == "f", 60, "the database has a primary again")


def wrong_certificate(make: Callable[[Scene, x509.Certificate], bytes]) -> Callable[[Scene], None]:
    """Let a backend have another certificate than its own."""

    def put(scene: Scene) -> None:
        path = scene.lab.directory / "tls" / scene.instance / "backend.pem"
        text = make(scene, x509.load_pem_x509_certificate(path.read_bytes())).decode()
        scene.sh(scene.instance, f"cat > {CERTIFICATE_FILE} && systemctl reload nginx", stdin=text)

    return put


def short_leases(scene: Scene) -> None:
    """Let each backend's database user end after two minutes, unless it is renewed."""
    leases(scene, 120, 240)


def long_leases(scene: Scene) -> None:
    """As they were."""
    leases(scene, 3600, 86400)


def leases(scene: Scene, default: int, most: int) -> None:
    """Set the lifetimes of database users, and give each backend a new one."""
    vault = scene.lab.vault()
    for name in scene.names("backend"):
        role = vault.read(f"database/roles/{name}")["data"] | {"default_ttl": default, "max_ttl": most}
        vault.write_data(f"database/roles/{name}", data=role)
    scene.each("backend", "systemctl restart vault-agent")


def rescue(scene: Scene) -> None:
    """Put right whatever was broken, without a word on what it was: for runs that were cut off, or did not heal."""
    scene.start()
    scene.join()
    for machine in scene.lab.machines:
        for entry in scene.lab.services_of(machine).values():
            for unit in entry["units"]:
                scene.attempt(machine.name, f"systemctl kill -s CONT '{unit}'")
    scene.each("backend", "systemctl restart vault-agent")
    scene.playbook("site.yml").require()


# What must hold -------------------------------------------------------------------------------------------------------


def another(what: str, seen: Seen, who: Callable[[Look], str]) -> list[str]:
    """A sentence where ``who`` is nobody else within 5 s; also where nobody knows who it was before."""
    before = who(seen.before) if seen.before else ""
    return within(what, seen.after(lambda look: bool(before) and who(look) not in ("", before)), 5)


def new_leader(_scene: Scene, seen: Seen) -> list[str]:
    """Another server of Consul leads within 5 s."""
    return another("a new leader", seen, lambda look: look.leader)


def new_active(_scene: Scene, seen: Seen) -> list[str]:
    """Another node of Vault is active within 5 s."""
    return another("a new active Vault", seen, lambda look: look.active)


def unsealed(scene: Scene, seen: Seen) -> list[str]:
    """All nodes of Vault are unsealed within 20 s."""
    nodes = len(scene.names("control"))
    last = max((look.at for look in seen.looks if look.unsealed < nodes), default=seen.since)
    return within("all of Vault unsealed", last - seen.since, 20)


def within(what: str, seconds: float | None, mark: float) -> list[str]:
    """A sentence where something came too late, or never."""
    mark *= running.pace
    if seconds is None or seconds > mark:
        return [f"{what} came {'never' if seconds is None else f'after {seconds:.1f} s'}, not within {mark:g} s"]
    return []


def both_versions(_scene: Scene, seen: Seen) -> list[str]:
    """The page shows both versions while one follows the other."""
    shown = max((len(look.versions) for look in seen.looks), default=0)
    return [] if shown > 1 else ["the page never showed two versions"]


def not_restarted(scene: Scene, seen: Seen) -> list[str]:
    """No backend was restarted."""
    problems = []
    for name in scene.names("backend"):
        since = time.monotonic() - seen.broken
        said = scene.sh(name, "cat /proc/uptime; systemctl show -P ExecMainStartTimestampMonotonic backend").split()
        if float(said[0]) - float(said[-1]) / 1e6 < since:
            problems.append(f"{name} was restarted")
    return problems


def failed_over(most: float) -> Callable[[Scene, Seen], list[str]]:
    """Who reads goes on, and so do writes after ``most`` seconds: none that is answered took longer.

    Where the database has one machine nobody can take over.
    """

    def check(scene: Scene, seen: Seen) -> list[str]:
        problems = not_restarted(scene, seen)
        if len(scene.names("database")) == 1:
            return problems
        if reads := sum(request.kind != "write" for request in seen.failed):
            problems.append(f"{reads} requests failed that only read")
        writes = [request for request in seen.requests if request.kind == "write" and request.good]
        taken = [seen.broken, *sorted(request.end for request in writes if request.end > seen.broken)]
        gap = max((later - earlier for earlier, later in itertools.pairwise(taken)), default=None)
        longest = max((request.seconds for request in writes), default=0.0)
        return problems + within("a write", gap, most) + within("the slowest answer to one", longest, most)

    check.__doc__ = f"reads go on, no write takes more than {most:g} s"
    return check


def no_flapping(scene: Scene, seen: Seen) -> list[str]:
    """No backend leaves DNS more than once."""
    problems = []
    for machine in scene.lab.group("backend"):
        there = [machine.address in found[BACKEND_NAME] for _, found in seen.names]
        times = sum(before and not after for before, after in itertools.pairwise(there))
        problems += [f"{machine.name} left DNS {times} times"] if times > 1 else []
    return problems


def warned_of_credentials(scene: Scene, seen: Seen) -> list[str]:
    """`make status` and the page say that credentials end, before they do."""
    shown = any(look.shown == "credentials" for look in seen.looks)
    return named("ends soon")(scene, seen) + ([] if shown else ["the page never warned of the credentials"])


def named(word: str) -> Callable[[Scene, Seen], list[str]]:
    """`make status` names what is wrong by a word."""

    def check(_scene: Scene, seen: Seen) -> list[str]:
        lines = [line for asked in seen.asked for line in asked.lines if line.level != GOOD]
        if any(word in f"{line.name} {line.state} {line.detail}".lower() for line in lines):
            return []
        return [f"status never said a word of the {word}"]

    check.__doc__ = f"`make status` says a word of the {word}"
    return check


FAULTS: tuple[Fault, ...] = (
    Fault(
        "gunicorn-killed",
        "a backend's gunicorn killed",
        lambda scene: scene.signal([scene.instance], "KILL", "backend"),
        GUNICORN,
        victim=lambda scene: scene.instance,
        quick=True,
    ),
    Fault(
        "gunicorn-hung",
        "a backend's gunicorn hung (SIGSTOP) for 8 s",
        lambda scene: scene.signal([scene.instance], "STOP", "backend"),
        GUNICORN,
        missed=r"p99 was [3-7]\d{3} ms",  # what the frontend's nginx waits, 3 or 7 s, and a little
        mends=lambda scene: scene.signal([scene.instance], "CONT", "backend"),
        hold=8,
        victim=lambda scene: scene.instance,
    ),
    Fault(
        "gunicorn-memory",
        "a backend's gunicorn killed since its machine is out of memory",
        out_of_memory,
        GUNICORN,
        victim=lambda scene: scene.instance,
    ),
    Fault(
        "backend-killed",
        "a backend's machine killed, started after 10 s",
        lambda scene: scene.kill(scene.instance),
        MACHINE,
        mends=Scene.start,
        hold=10,
        victim=lambda scene: scene.instance,
        quick=True,
    ),
    Fault(
        "backend-cut",
        "a backend's network cut for 10 s",
        lambda scene: scene.cut(scene.instance),
        MACHINE,
        mends=Scene.join,
        hold=10,
        victim=lambda scene: scene.instance,
        more=no_flapping,
    ),
    Fault(
        "release",
        "a new release of the backend to all, one at a time, and back",
        release_next,
        NO_FAILURE,
        mends=release_back,
        more=both_versions,
    ),
    Fault(
        "consul-leader",
        "the machine of Consul's leader killed, started after 10 s",
        kill_leader,
        CONSUL,
        mends=Scene.start,
        hold=10,
        more=new_leader,
        servers=3,
    ),
    Fault(
        "consul-follower",
        "the machine of another server of Consul killed, started after 10 s",
        kill_follower,
        CONSUL,
        mends=Scene.start,
        hold=10,
        servers=3,
    ),
    Fault(
        "consul-client",
        "a backend's Consul agent killed",
        lambda scene: scene.signal([scene.instance], "KILL", "consul"),
        Marks(p99=0.5),
    ),
    Fault(
        "consul-quorum",
        "Consul without a quorum for 60 s: two of three servers hung",
        lambda scene: scene.signal(scene.names("control")[1:], "STOP", "consul"),
        CONSUL,
        mends=lambda scene: scene.signal(scene.names("control")[1:], "CONT", "consul"),
        hold=60,
        servers=3,
    ),
    Fault(
        "vault-active",
        "the machine of Vault's active node killed, started after 10 s",
        kill_active_vault,
        CONSUL,
        mends=Scene.start,
        hold=10,
        more=new_active,
        servers=3,
    ),
    Fault(
        "vault-all",
        "Vault killed on all machines",
        lambda scene: scene.each("control", "systemctl kill -s KILL vault"),
        Marks(stays=NAMES, p99=0.5),
        more=unsealed,
    ),
    Fault(
        "vault-sealed",
        "Vault sealed by an operator for 5 minutes",
        seal_all,
        Marks(stays=NAMES, p99=0.5),
        mends=start_vault_again,
        hold=300,
        more=not_restarted,
    ),
    Fault(
        "vault-away",
        "Vault hung for 105 s, where a lease is two minutes",
        lambda scene: scene.signal(scene.names("control"), "STOP", "vault"),
        Marks(stays=NAMES, p99=0.5),
        mends=lambda scene: scene.signal(scene.names("control"), "CONT", "vault"),
        hold=105,
        prepares=short_leases,
        clears=long_leases,
        more=warned_of_credentials,
    ),
    Fault(
        "control-rebooted",
        "all control machines rebooted at once",
        lambda scene: scene.reboot(*scene.names("control")),
        Marks(stays=NAMES, healed=45),
        more=unsealed,
    ),
    Fault(
        "all-rebooted",
        "all machines rebooted at once",
        lambda scene: scene.reboot(*all_machines(scene)),
        Marks(failed=None, healed=45),
        more=unsealed,
        patience=120,
    ),
    Fault(
        "all-killed",
        "all machines killed at once, as by a power cut, and started",
        lambda scene: scene.kill(*all_machines(scene)),
        Marks(failed=None, healed=45),
        mends=Scene.start,
        more=unsealed,
        patience=120,
    ),
    Fault(
        "postgresql-restarted",
        "PostgreSQL restarted",
        lambda scene: scene.sh(scene.database, "systemctl restart patroni"),
        DATABASE,
        more=not_restarted,
    ),
    Fault(
        "postgresql-killed",
        "PostgreSQL killed",
        kill_postgresql,
        DATABASE,
        more=failed_over(3),
        quick=True,
    ),
    Fault(
        "postgresql-hung",
        "PostgreSQL hung (SIGSTOP) for 10 s",
        lambda scene: scene.signal([scene.database], "STOP", POSTGRESQL),
        DATABASE,
        mends=lambda scene: scene.signal(scene.names("database"), "CONT", POSTGRESQL),
        hold=10,
        more=not_restarted,
    ),
    Fault(
        "database-rebooted",
        "the database's machine rebooted",
        lambda scene: scene.reboot(scene.database),
        Marks(answer=5, absence=4.5, healed=15),
        more=failed_over(9),
    ),
    Fault(
        "database-cut",
        "the database's network cut for 20 s",
        lambda scene: scene.cut(scene.database),
        DATABASE,
        mends=Scene.join,
        hold=20,
        more=failed_over(9),
        missed=f"{BACKEND_NAME} lost an address of something that lives for a moment",
    ),
    Fault(
        "patroni-killed",
        "Patroni killed on the primary",
        lambda scene: scene.sh(scene.database, "systemctl kill --kill-who=main -s KILL patroni"),
        NO_FAILURE,
        more=failed_over(2),
    ),
    Fault(
        "switchover",
        "another machine of the database made the primary by an operator",
        lambda scene: scene.playbook("playbooks/switchover.yml").require(),
        NO_FAILURE,
        # Patroni ends PostgreSQL, and looks only a second later whether it has ended.
        missed=r"(a write|the slowest answer to one) came after 2\.[0-4] s",
        more=failed_over(2),
        databases=2,
    ),
    Fault(
        "primary-killed",
        "the primary's machine killed, started after 15 s",
        lambda scene: scene.kill(scene.database),
        FAILOVER,
        mends=Scene.start,
        hold=15,
        more=failed_over(9),
        databases=2,
    ),
    Fault(
        "replica-killed",
        "a replica's machine killed, started after 15 s",
        kill_replica,
        Marks(stays=(BACKEND_NAME,), healed=30),
        mends=Scene.start,
        hold=15,
        # A write waits for Patroni's next look, two seconds away at most, and for what that does.
        missed=r"(a write|the slowest answer to one) came after 2\.[0-2] s",
        more=failed_over(2),
        databases=2,
    ),
    Fault(
        "primary-and-leader",
        "the primary's machine and that of Consul's leader killed at once, started after 20 s",
        kill_leader_and_primary,
        FAILOVER,
        mends=Scene.start,
        hold=20,
        more=failed_over(15),
        servers=3,
        databases=2,
    ),
    Fault(
        "databases-killed",
        "all machines of the database killed at once, started after 5 s",
        lambda scene: scene.kill(*scene.names("database")),
        Marks(answer=5, absence=4.5, stays=(BACKEND_NAME,), healed=45),
        mends=Scene.start,
        hold=5,
        more=not_restarted,
        databases=2,
    ),
    Fault(
        "credentials-rotated",
        "new database credentials for all backends",
        lambda scene: scene.each("backend", "systemctl restart vault-agent"),
        Marks(stays=NAMES, p99=0.5),
        more=not_restarted,
    ),
    Fault(
        "credentials-revoked",
        "all database credentials revoked in Vault",
        revoke_all,
        CREDENTIALS,
        more=not_restarted,
        quick=True,
    ),
    Fault(
        "credentials-dropped",
        "a backend's user dropped in PostgreSQL by hand",
        drop_role,
        CREDENTIALS,
        more=not_restarted,
    ),
    Fault(
        "database-restored",
        "the database restored from a dump, without its newer users",
        restore_dump,
        CREDENTIALS,
        more=not_restarted,
        kinds=("read", "status"),
    ),
    Fault(
        "control-away",
        "a backend cut off from the control machines for 20 s",
        cut_from_control,
        Marks(stays=NAMES, p99=0.5),
        mends=Scene.join,
        hold=20,
        more=no_flapping,
    ),
    Fault(
        "one-way",
        "a backend whose answers are lost for 10 s, while it is still reached",
        lambda scene: scene.cut(scene.instance, coming="accept"),
        Marks(out=6, p99=0.5),
        mends=Scene.join,
        hold=10,
        victim=lambda scene: scene.instance,
        more=no_flapping,
    ),
    Fault(
        "loss",
        "a backend that loses 5 % of its packets, both ways, for 20 s",
        lambda scene: scene.cut(scene.instance, coming=LOSS, going=LOSS),
        Marks(stays=NAMES),
        mends=Scene.join,
        hold=20,
        more=no_flapping,
    ),
    Fault(
        "secrets-emptied",
        "a backend's /run/secrets emptied",
        lambda scene: scene.sh(scene.instance, "rm -f /run/secrets/*"),
        Marks(healed=5),
        more=not_restarted,
    ),
    Fault(
        "secret-half",
        "half of a backend's service file written",
        half_a_file,
        Marks(healed=5),
        more=not_restarted,
    ),
    Fault(
        "disk-backend",
        "no room in a backend's /run for 15 s",
        lambda scene: fill(scene, scene.instance, "/run"),
        NO_FAILURE,
        mends=lambda scene: scene.sh(scene.instance, "rm -f /run/filler"),
        hold=15,
        prepares=small_run,
        clears=roomy_run,
        more=named("room"),
    ),
    Fault(
        "inodes-backend",
        "no inode left in a backend's /run for 15 s",
        no_inodes,
        NO_FAILURE,
        mends=lambda scene: scene.sh(scene.instance, "rm -rf /run/filler"),
        hold=15,
        prepares=small_run,
        clears=roomy_run,
        more=named("room"),
    ),
    Fault(
        "disk-control",
        "no room for the log of Vault's active node for 15 s",
        lambda scene: fill(scene, active(scene), "/var/log/vault"),
        NO_FAILURE,
        mends=lambda scene: scene.each("control", "rm -f /var/log/vault/filler"),
        hold=15,
        prepares=small_log,
        clears=roomy_log,
        more=named("room"),
    ),
    Fault(
        "disk-database",
        "no room for PostgreSQL's data for 15 s",
        lambda scene: fill(scene, scene.database, "/mnt"),
        Marks(answer=5, stays=(BACKEND_NAME,), healed=5),
        mends=lambda scene: scene.each("database", "rm -f /mnt/filler"),
        hold=15,
        prepares=small_data,
        clears=roomy_data,
        more=named("room"),
    ),
    Fault(
        "certificate-expired",
        "a backend's certificate has expired, for 10 s",
        wrong_certificate(lambda scene, own: issued(own, datetime.timedelta(days=3650), authority_key(scene.lab))),
        CERTIFICATE,
        mends=wrong_certificate(lambda _scene, own: own.public_bytes(serialization.Encoding.PEM)),
        hold=10,
        victim=lambda scene: scene.instance,
        more=named("certificate"),
    ),
    Fault(
        "certificate-future",
        "a backend's certificate is valid only from a later day on, as where its clock is wrong, for 10 s",
        wrong_certificate(lambda scene, own: issued(own, -datetime.timedelta(days=3650), authority_key(scene.lab))),
        CERTIFICATE,
        mends=wrong_certificate(lambda _scene, own: own.public_bytes(serialization.Encoding.PEM)),
        hold=10,
        victim=lambda scene: scene.instance,
        more=named("certificate"),
    ),
    Fault(
        "certificate-stranger",
        "a backend's certificate is from a stranger's authority, for 10 s",
        wrong_certificate(lambda _scene, own: of_a_stranger(own)),
        CERTIFICATE,
        mends=wrong_certificate(lambda _scene, own: own.public_bytes(serialization.Encoding.PEM)),
        hold=10,
        victim=lambda scene: scene.instance,
        more=named("certificate"),
    ),
    Fault(
        "nuisance",
        "200 stalled connections, 2,000 requests in a second, 50 bodies cut off, by another client",
        nuisance,
        Marks(stays=NAMES, p99=0.5),
    ),
)
