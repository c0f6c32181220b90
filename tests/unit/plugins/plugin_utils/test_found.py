# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host had before the platform came: what is refused, in whole messages, and what never is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.module_utils.host import found as on_host
from ansible_collections.uptier.platform.plugins.plugin_utils import found as f
from ansible_collections.uptier.platform.plugins.plugin_utils.application import completed
from ansible_collections.uptier.platform.plugins.plugin_utils.ports import Numbers

ROOT = Path(__file__).resolve().parents[4]
TABLE = yaml.safe_load((ROOT / "roles/platform/vars/found.yml").read_text(encoding="utf-8"))
RELEASES = yaml.safe_load((ROOT / "roles/platform/vars/releases.yml").read_text(encoding="utf-8"))["platform_releases"]
EVERY = ["gateway", "app", "postgresql", "etcd", "redis", "monitoring", "backup"]
APPLICATIONS = completed(
    [
        {
            "name": "shop",
            "version": "1",
            "release": "shop.tar.gz",
            "services": [{"name": "web", "command": "run", "port": 4000, "health": "/"}],
        }
    ]
)


# -- What is seen on a host

DEBIAN_NGINX = "user www-data;\n"
STATUS = """Package: nginx-common
Conffiles:
 /etc/nginx/nginx.conf {nginx}
 /etc/nginx/sites-available/default {site}
 /etc/haproxy/haproxy.cfg {haproxy}
Description: none
"""


class Tree:
    """The file system of a host as a directory."""

    def __init__(self, root: Path):
        self.root = root
        digest = {
            name: hashlib.md5(text.encode()).hexdigest()
            for name, text in (("nginx", DEBIAN_NGINX), ("site", "site\n"), ("haproxy", "global\n"))
        }
        self.file("/var/lib/dpkg/status", STATUS.format(**digest))

    def file(self, name, text=""):
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def link(self, name, target):
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def process(self, pid, program, *, exe="", cwd="", parent=1, cgroup="0::/system.slice/x.service", sockets=()):
        self.file(f"/proc/{pid}/stat", f"{pid} ({program}) S {parent} 1 1 0")
        self.file(f"/proc/{pid}/cgroup", cgroup + "\n")
        self.link(f"/proc/{pid}/exe", exe or f"/usr/sbin/{program}")
        self.link(f"/proc/{pid}/cwd", cwd or "/")
        for number, inode in enumerate(sockets):
            self.link(f"/proc/{pid}/fd/{number}", f"socket:[{inode}]")

    def listen(self, *rows):
        lines = [f" {i}: {address} 00000000:0000 0A 0:0 0:0 0 0 0 {inode} 1" for i, (address, inode) in enumerate(rows)]
        for family, size in (("tcp", 13), ("tcp6", 37)):
            self.file(f"/proc/net/{family}", "head\n" + "".join(f"{line}\n" for line in lines if len(line.split()[1]) == size))

    def look(self, groups=EVERY, zone="UTC"):
        return on_host.Look(f.question(groups, APPLICATIONS, zone), str(self.root)).answer()


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def said(facts, groups=EVERY, *, release="13", flows=(), applications=APPLICATIONS, **variables):
    """Return the whole messages about one host with these facts."""
    inventory = {"all": ["one"], **{group: ["one"] for group in groups}}
    hostvars = {"one": {"ansible_host": "10.0.0.1", **variables}}
    probes = {"one": {"release": release, "found": facts}}
    return [str(problem) for problem in f.problems(probes, inventory, Numbers(hostvars, inventory), applications, flows, RELEASES)]


def test_a_bare_host(tree):
    tree.process(1, "systemd")
    tree.process(7, "sshd", sockets=(70,))
    tree.listen(("00000000:0016", 70))
    assert said(tree.look()) == []


def test_debians_own_cluster_that_runs(tree):
    tree.file("/etc/postgresql/17/main/postgresql.conf", "data_directory = '/var/lib/postgresql/17/main'\t# x\nport = 5432 # y\n")
    tree.file("/var/lib/postgresql/17/main/PG_VERSION", "17\n")
    tree.process(40, "postgres", exe="/usr/lib/postgresql/17/bin/postgres", cwd="/var/lib/postgresql/17/main", sockets=(7,))
    tree.process(41, "postgres", exe="/usr/lib/postgresql/17/bin/postgres", cwd="/var/lib/postgresql/17/main", parent=40)
    tree.listen(("0100007F:1538", 7))
    assert said(tree.look()) == [
        "host one has a PostgreSQL cluster that is not the platform's: 17/main, version 17, data in /var/lib/postgresql/17/main, port 5432, "
        "running; and the platform would take its directory. Give the platform another host. Or set postgresql_adopt: true, and Patroni "
        "leads it with its rows and roles. Or dump it (pg_dumpall), remove it (pg_dropcluster --stop 17 main), and load the dump into the "
        "platform's cluster after the run."
    ]


def test_a_cluster_to_be_adopted(tree):
    tree.file("/etc/postgresql/17/main/postgresql.conf")
    tree.file("/var/lib/postgresql/17/main/PG_VERSION", "17\n")
    assert said(tree.look(), postgresql_adopt=True) == [
        "host one has a PostgreSQL cluster that is not the platform's: 17/main, version 17, data in /var/lib/postgresql/17/main, port 5432, not "
        "running; to be adopted it has to run, so that it can be looked at. Start it (pg_ctlcluster 17 main start) and run again."
    ]
    tree.process(40, "postgres", exe="/usr/lib/postgresql/17/bin/postgres", cwd="/var/lib/postgresql/17/main")
    assert said(tree.look(), postgresql_adopt="yes") == []
    assert len(said(tree.look(), release="12", postgresql_adopt=True)) == 1, "another major version"
    tree.file("/etc/postgresql/17/main/postgresql.conf", "data_directory = '/srv/pg'\n")
    tree.file("/srv/pg/PG_VERSION", "17\n")
    assert any("data in /srv/pg" in text for text in said(tree.look(), postgresql_adopt=True)), "another directory"


def test_only_one_cluster_can_become_the_platforms():
    cluster = {"name": "17/main", "version": "17", "data": "/var/lib/postgresql/17/main", "config": "/etc/x", "port": 5432, "running": True}
    inventory = {"all": ["a", "b", "c"], "postgresql": ["a", "b", "c"]}
    numbers = Numbers({host: {"postgresql_adopt": True} for host in "abc"}, inventory)

    def asked(**ours):
        probes = {
            host: {"release": "13", "found": {"clusters": [cluster] if host in "ab" else [], "ours": ours.get(host, [])}} for host in "abc"
        }
        return [str(problem) for problem in f.problems(probes, inventory, numbers, [], [], RELEASES)]

    refused = (
        "hosts a, b: are to be adopted, each with a PostgreSQL cluster of its own, and a platform has one. Set postgresql_adopt: true for one of them; "
        "move the data of the others into it, or give the platform other hosts."
    )
    assert asked() == [refused]
    assert asked(c=["PostgreSQL"])[0].startswith("hosts a, b: are to be adopted, and the platform's own cluster is on c already. ")
    assert asked(a=["PostgreSQL"], b=["PostgreSQL"]) == [], "a run that was killed in between"


def test_a_stopped_cluster_of_another_version(tree):
    tree.file("/etc/postgresql/15/old/postgresql.conf", "port = 5433\n")
    tree.file("/var/lib/postgresql/15/old/PG_VERSION", "15\n")
    seen = tree.look()
    assert said(seen) == [
        "host one has a PostgreSQL cluster that is not the platform's: 15/old, version 15, data in /var/lib/postgresql/15/old, port 5433, not "
        "running. Give the platform another host, or dump it (pg_dumpall) and remove it (pg_dropcluster --stop 15 old); or, since it takes "
        'neither the directory nor the port of the platform\'s cluster, add "postgresql 15/old" to platform_tolerated.'
    ]
    assert said(seen, platform_tolerated=["postgresql 15/old"]) == []
    assert said(seen, ["app"]) == [], "it takes nothing from a host that gets no PostgreSQL"


def test_a_server_whose_directory_nobody_knows(tree):
    tree.file("/data/pg/PG_VERSION", "16\n")
    tree.file("/data/pg/postmaster.pid", "40\n/data/pg\n1700000000\n5444\n/tmp\n")
    tree.process(40, "postgres", exe="/opt/pg16/bin/postgres", cwd="/data/pg")
    assert "in /data/pg, version 16, data in /data/pg, port 5444, running" in said(tree.look())[0]
    assert 'if it may stay beside the platform, add "postgresql /data/pg" to platform_tolerated' in said(tree.look(["app"]), ["app"])[0]


def test_a_cluster_with_its_port_elsewhere(tree):
    """It takes the port, not the directory: it cannot be tolerated either."""
    tree.file("/etc/postgresql/15/main/postgresql.conf", "port = 5432\n")
    tree.file("/var/lib/postgresql/15/main/PG_VERSION", "15\n")
    assert "the platform would take its port" in said(tree.look(), platform_tolerated=["postgresql 15/main"])[0]
    assert "the platform would take its directory" in said(tree.look(), release="12", postgresql_port=5499)[0]


RDB_HEAD = b"REDIS0011\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0\x40\xfa\x05ctime\xc2\x00\x00\x00\x00"


def test_redis_by_its_files(tree):
    tree.file("/var/lib/redis/dump.rdb", RDB_HEAD + b"\xff12345678")
    assert said(tree.look()) == [], "what an empty server leaves when it stops"
    tree.file("/var/lib/redis/dump.rdb", RDB_HEAD + b"\xfe\x00\xfb\x01\x00\x00\x01a\x011\xff12345678")
    assert said(tree.look()) == [
        "host one has a Redis that is not the platform's: data in /var/lib/redis/dump.rdb. Give the platform another host. Or keep what you "
        "need of its keys, stop it (systemctl disable --now redis-server) and move its files out of the data directory; the platform's "
        "cluster begins empty."
    ]
    tree.file("/etc/systemd/system/redis-node@.service")
    assert said(tree.look()) == [], "the platform's own"


def test_a_redis_that_runs(tree):
    tree.process(9, "redis-server", cwd="/var/lib/redis")
    assert "redis-server on /var/lib/redis that does not tell its number of keys" in said(tree.look())[0]
    assert said(tree.look(["app"]), ["app"], platform_tolerated=["redis"]) == []


def test_nginx_with_sites(tree):
    tree.file("/etc/nginx/nginx.conf", DEBIAN_NGINX)
    tree.file("/etc/nginx/sites-available/default", "site\n")
    (tree.root / "etc/nginx/sites-enabled").mkdir()
    tree.link("/etc/nginx/sites-enabled/default", "../sites-available/default")
    tree.process(5, "nginx", sockets=(1,))
    tree.listen(("00000000:0050", 1))
    assert said(tree.look()) == [], "as the package brings it, it is nobody's"
    tree.file("/etc/nginx/sites-available/blog", "server {}\n")
    tree.link("/etc/nginx/sites-enabled/blog", "../sites-available/blog")
    assert said(tree.look()) == [
        "host one has an nginx that is not the platform's: it has /etc/nginx/sites-enabled/blog. The run would replace its configuration and "
        "remove its sites. Give the platform another host, or move this one away: stop it, keep what you need of these files elsewhere, and "
        "remove them."
    ]
    assert said(tree.look(["postgresql"]), ["postgresql"]) == [
        "host one has nginx listening on port 80, which the platform's firewall would close. Open it with a flow in platform_flows_extra; or, "
        'if nobody needs to reach it, add "port 80" to platform_tolerated.'
    ]
    tree.file("/etc/nginx/conf.d/uptier-limits.conf")
    assert said(tree.look()) == []


def test_changed_settings(tree):
    tree.file("/etc/haproxy/haproxy.cfg", "global\n")
    assert said(tree.look()) == []
    tree.file("/etc/haproxy/haproxy.cfg", "global\nfrontend mine\n")
    assert "has a HAProxy that is not the platform's: it has the settings /etc/haproxy/haproxy.cfg" in said(tree.look())[0]


@pytest.mark.parametrize(
    ("part", "trace"),
    [
        (part, trace.replace("*", "default" if part["name"] == "etcd" else "mine"))
        for part in TABLE["platform_found"]
        if part["name"] not in ("PostgreSQL", "Redis")
        for trace in (*part.get("settings", ()), *part.get("data", ()), *(f"/etc/systemd/system/{unit}" for unit in part.get("units", ())))
    ],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_whatever_somebody_left_of_a_program_is_named_and_what_is_ours_is_not(tree, part, trace):
    groups = EVERY if part["group"] == "all" else [part["group"]]
    tree.file(trace, "somebody's\n")
    (seen,) = said(tree.look(groups), groups)
    assert f"a {part['name']} that is not the platform's: it has" in seen.replace("an ", "a ")
    assert trace in seen
    assert f"The run would {part['would']}. Give the platform another host" in seen
    others = [group for group in EVERY if group != part["group"]]
    assert part["group"] == "all" or said(tree.look(others), others) == []
    tree.file(part["ours"][0].replace("*", "x"))
    assert said(tree.look(groups), groups) == []


def test_an_etcd_that_runs_counts_by_that_alone(tree):
    """Its data may be anywhere."""
    tree.process(7, "etcd", exe="/opt/etcd/etcd", cwd="/srv/kubernetes", sockets=(1,))
    tree.listen(("0100007F:094B", 1))
    (seen,) = said(tree.look())
    assert (
        "has an etcd that is not the platform's: it runs as /opt/etcd/etcd. The run would start the platform's member on its data." in seen
    )


def test_a_program_from_elsewhere_and_a_unit_of_the_same_name(tree):
    tree.process(5, "prometheus", exe="/opt/prometheus/prometheus")
    tree.file("/etc/systemd/system/prometheus.service", "[Service]\n")
    assert (
        "it runs as /opt/prometheus/prometheus and has the unit /etc/systemd/system/prometheus.service. The run would replace its "
        "configuration and continue its data." in said(tree.look())[0]
    )


def test_ports(tree):
    tree.process(5, "node", sockets=(1, 2))
    tree.process(6, "mysqld", sockets=(3, 4))
    tree.listen(
        ("0100007F:0FA0", 1),
        ("0100007F:0BB8", 2),
        ("00000000:0CEA", 3),
        ("00000000000000000000000000000000:0CEB", 4),
    )
    assert said(tree.look()) == [
        "host one has mysqld listening on port 3306, which the platform's firewall would close. Open it with a flow in platform_flows_extra; "
        'or, if nobody needs to reach it, add "port 3306" to platform_tolerated.',
        "host one has mysqld listening on port 3307, which the platform's firewall would close. Open it with a flow in platform_flows_extra; "
        'or, if nobody needs to reach it, add "port 3307" to platform_tolerated.',
        "host one has port 4000 in use by node, and the service shop.web needs it. Move node away.",
    ], "Grafana on 3000 listens on the host's address and can be beside the one on loopback"
    flow = {"name": "mysql", "from": "any", "to": "app", "protocol": "tcp", "ports": [3306]}
    assert len(said(tree.look(), flows=[flow], platform_tolerated=["port 3307"])) == 1


@pytest.mark.parametrize("address", ["0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"])
def test_loopback_is_closed_anyway(tree, address):
    tree.process(5, "exim4", sockets=(1,))
    tree.listen((f"{address}:0019", 1))
    assert said(tree.look()) == []


def test_a_port_that_a_variable_moves(tree):
    tree.process(5, "java", sockets=(1,))
    tree.listen(("00000000:2382", 1))
    assert said(tree.look()) == [
        "host one has port 9090 in use by java, and Prometheus needs it. Move java away, or set prometheus_port for the host."
    ]
    assert said(tree.look(), prometheus_port=9490, platform_tolerated=["port 9090"]) == []


def test_docker_and_firewalls(tree):
    tree.process(5, "dockerd", cgroup="0::/system.slice/docker.service")
    tree.process(6, "redis-server", cgroup="0::/system.slice/docker-4f2a.scope")
    (tree.root / "var/lib/docker/containers/4f2a").mkdir(parents=True)
    tree.file("/etc/ufw/ufw.conf", "ENABLED=yes\n")
    seen = tree.look()
    assert said(seen) == [
        "host one runs Docker with 1 container, and the platform's firewall forwards nothing: containers would lose their network, and the "
        "ports that they publish would be closed. Give the platform another host. Or let their interfaces through "
        '(firewall_forward_interfaces, for example docker0 and br-*) and add "docker" to platform_tolerated.',
        "host one has a firewall of its own, ufw (ENABLED=yes in /etc/ufw/ufw.conf). It would stay in force beside the platform's table: what "
        "either of them drops is dropped, so ports that the platform opens would stay closed. Write what it permits into "
        'platform_flows_extra and switch it off (ufw disable); or open the platform\'s ports in it too, and add "ufw" to platform_tolerated.',
    ]
    assert said(seen, platform_tolerated=["docker", "ufw"]) == []


def test_a_user_of_an_applications_name(tree):
    tree.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nshop:x:1001:1001::/home/shop:/bin/sh\n")
    tree.file("/etc/systemd/system/shop-web@.service")
    assert said(tree.look()) == [
        "host one has a user shop (uid 1001, home /home/shop), and the application of that name would run as it. Rename the application, or "
        "remove the user.",
        "host one has a unit of its own at /etc/systemd/system/shop-web@.service, and an application would replace it. Rename the "
        "application, or remove the unit.",
    ]


def test_the_same_on_several_hosts_is_one_problem():
    inventory = {"all": ["a", "b"], "app": ["a", "b"]}
    facts = {"platform": False, "firewalls": [{"name": "ufw", "detail": "x"}]}
    probes = {host: {"release": "13", "found": facts} for host in "ab"}
    problems = f.problems(probes, inventory, Numbers({"a": {}, "b": {}}, inventory), [], [], RELEASES)
    assert [problem.where for problem in problems] == ["each of the hosts a, b"]


ZONES = "# tzdb\nZ Europe/Berlin 0:53:28 - LMT 1893 Ap\n1 E CE%sT\nZ Etc/UTC 0 - UTC\nL America/New_York US/Eastern\nL Etc/UTC UTC\n"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "US/Eastern", "UTC", "Custom/Place"])
def test_time_zones_of_the_system(tree, zone):
    tree.file("/usr/share/zoneinfo/tzdata.zi", ZONES)
    tree.file("/usr/share/zoneinfo/Custom/Place", "TZif")
    assert said(tree.look(zone=zone)) == []


def test_a_time_zone_that_is_none(tree):
    assert said(tree.look(zone="Europe/Berln")) == [], "a host without a list learns it from the role base"
    tree.file("/etc/uptier/hosts")
    tree.file("/usr/share/zoneinfo/tzdata.zi", ZONES)
    assert said(tree.look([], zone="Europe/Berln"), []) == [
        "host one has no time zone Europe/Berln (base_timezone, or platform_timezone). Did you mean Europe/Berlin? The names are those "
        "of timedatectl list-timezones."
    ]
    assert "Did you mean" not in said(tree.look(zone="Nowhere"))[0]
    assert "has no time zone Europe " in said(tree.look(zone="Europe"))[0], "a directory is no zone"


# -- What is never refused


def converged(tree, but=()):
    """A host as a run leaves it: everything that the platform runs there, but no claim, as an older version left none."""
    for place, part in enumerate(TABLE["platform_found"]):
        if part["name"] in but:
            continue
        tree.file(part["ours"][0], "ours")
        tree.process(100 + place, part["programs"][0], exe=f"/opt/uptier/{place}", sockets=(place,))
        for path in (*part.get("settings", ()), *(pattern.replace("*", "x") for pattern in part.get("data", ()))):
            tree.file(path, "written by the platform")
        for unit in part.get("units", ()):
            tree.file(f"/etc/systemd/system/{unit}", "ours")
    if "PostgreSQL" not in but:
        tree.file("/var/lib/postgresql/17/main/PG_VERSION", "17\n")
    tree.file("/var/lib/redis/node-6379/dump.rdb", RDB_HEAD + b"\xfe")
    tree.file("/etc/passwd", "shop:x:998:998::/:/bin/sh\n")
    tree.file("/etc/systemd/system/shop-web@.service")
    tree.file("/etc/uptier/hosts")
    tree.file("/etc/ufw/ufw.conf", "ENABLED=yes\n")
    tree.process(300, "node", sockets=(300,))
    tree.listen(*((f"00000000:{0x1000 + place:04X}", place) for place in range(20)), ("00000000:0FA0", 300))


def test_a_second_run(tree):
    converged(tree)
    facts = tree.look()
    assert said(facts) == []
    assert set(facts) == {
        "platform",
        "claims",
        "ours",
        "parts",
        "clusters",
        "redis",
        "redis_masters",
        "memory_mb",
        "cpus",
        "lives",
        "keeps",
        "strange_zone",
    }, "nothing else is looked at there"


@pytest.mark.parametrize("part", [part["name"] for part in TABLE["platform_found"] if part["name"] != "PostgreSQL"])
def test_a_run_that_was_killed_before_a_part_was_configured(tree, part):
    """Its package is there, the host was rebooted and started it; what base wrote says that the group is the platform's."""
    converged(tree, but=[part])
    tree.file(TABLE["platform_claims"], json.dumps(EVERY))
    for item in TABLE["platform_found"]:
        if item["name"] == part:
            tree.process(200, item["programs"][0])
            for path in (*item.get("settings", ()), *(pattern.replace("*", "x") for pattern in item.get("data", ()))):
                tree.file(path, "")
    assert said(tree.look()) == []


def test_a_claim_is_no_claim_to_a_cluster(tree):
    converged(tree, but=["PostgreSQL"])
    tree.file(TABLE["platform_claims"], json.dumps(EVERY))
    assert said(tree.look()) == []
    tree.file("/var/lib/postgresql/17/main/PG_VERSION", "17\n")
    assert len(said(tree.look())) == 1


def test_a_host_of_the_platform_that_comes_into_another_group(tree):
    tree.file("/etc/uptier/hosts")
    tree.file(TABLE["platform_claims"], '["app"]')
    tree.file("/etc/nginx/nginx.conf", "mine\n")
    tree.file("/etc/ufw/ufw.conf", "ENABLED=yes\n")
    assert [text.split(":")[0] for text in said(tree.look(["app", "gateway"]), ["app", "gateway"])] == [
        "host one has an nginx that is not the platform's"
    ]


def test_a_host_of_an_older_version_that_comes_into_another_group(tree):
    """Nothing claims its groups, and the services of applications have ports of their own."""
    converged(tree, but=[part["name"] for part in TABLE["platform_found"] if part["group"] == "monitoring"])
    assert said(tree.look()) == []


# -- The table and the program


def test_roles_write_what_the_table_takes_for_theirs():
    texts = {
        role.name: "".join(path.read_text(encoding="utf-8") for folder in ("tasks", "vars") for path in (role / folder).glob("*.yml"))
        for role in (ROOT / "roles").iterdir()
        if role.is_dir()
    }
    for part in TABLE["platform_found"]:
        for path in part["ours"]:
            assert path in texts[part["name"].lower()], f"{part['name']}: no task writes {path}"
    assert f"dest: {TABLE['platform_claims']}," in texts["base"]


def test_the_program_runs_by_itself(tmp_path):
    """As it is sent to a host: with Python alone, without the collection."""
    asked = json.dumps({**f.question(["app"], APPLICATIONS), "marks": [str(tmp_path)]})
    program = Path(on_host.__file__).read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, asked], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    )
    assert json.loads(done.stdout)["platform"] is True


def test_rules_that_are_somebodys():
    engine = "*filter\n:INPUT ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\nCOMMIT\n"
    assert on_host.rules_of_iptables(engine) == []
    mine = "*nat\n-A POSTROUTING -j MASQUERADE\n*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n"
    assert on_host.rules_of_iptables(mine) == ["policy DROP of INPUT", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"]
    tables = (
        "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n"
        "table inet empty {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n"
        "table inet platform {\n\tchain input {\n\t\tpolicy drop;\n\t}\n}\n"
        "table inet f2b-table {\n\tchain f2b-chain {\n\t\treject\n\t}\n}\n"
        "table ip filter {\n\tchain INPUT {\n\t\tdrop\n\t}\n}\n"
    )
    assert on_host.tables_of_nftables(tables) == ["inet filter"]


NODES = """\
07c37d 10.0.0.21:6379@16379,app1.internal myself,master - 0 1 1 connected 0-5460
67ed2d 10.0.0.22:6379@16379,app2.internal master - 0 1 2 connected 5461-10922 [10923->-292f8b]
292f8b 10.0.0.23:6379@16379,app3.internal master - 0 1 3 connected 10923-16382 16383
6ec23a 10.0.0.21:6380@16380,app1.internal slave 67ed2d 0 1 2 connected
vars currentEpoch 6 lastVoteEpoch 0
"""


@pytest.mark.parametrize(
    ("nodes", "masters"),
    [(NODES, 3), (NODES.replace("0-5460", "100-5460"), 0), ("07c37d :0@0 myself,master - 0 0 0 connected 0-16383\n", 1), ("", 0)],
)
def test_the_platforms_own_redis_tells_its_shape(tree, nodes, masters):
    """A cluster that lacks slots is one that a run puts right."""
    tree.file("/etc/systemd/system/redis-node@.service")
    tree.file("/var/lib/redis/6379/nodes.conf", nodes)
    assert tree.look()["redis_masters"] == masters


def test_what_the_platform_keeps_on_a_host(tree):
    for part in TABLE["platform_found"]:
        tree.file(part["ours"][0], "ours")
    assert tree.look()["keeps"] == [], "installed, and nothing kept yet"
    tree.file("/var/lib/etcd/default/member/snap/db")
    tree.file("/var/lib/postgresql/17/main/PG_VERSION", "17\n")
    tree.file("/var/lib/redis/6379/nodes.conf", NODES)
    tree.file("/var/lib/prometheus/metrics2/wal/00000000")
    tree.file("/srv/backups/backup/main/backup.info")
    tree.file("/etc/pgbackrest/pgbackrest.conf", "[global]\nrepo1-path=/srv/backups\n")
    assert tree.look()["keeps"] == ["etcd", "postgresql", "redis", "repository", "metrics"]
    tree.file("/etc/pgbackrest/pgbackrest.conf", "[global]\nrepo1-host=mon1.internal\n")
    assert "repository" not in tree.look()["keeps"], "what was left there is no repository"


def test_the_platforms_own_members_tell_where_they_are_known(tree):
    tree.file("/etc/systemd/system/redis-node@.service")
    tree.file("/etc/systemd/system/etcd.service.d/platform.conf")
    tree.file("/etc/redis/node.conf", "bind 10.0.0.3 127.0.0.1\ncluster-announce-ip 10.0.0.3\n")
    peer, client = "ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.3:2380", "ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.3:2379"
    tree.file("/etc/etcd/etcd.env", f"ETCD_NAME=app1\n{client}\n{peer}\n")
    assert tree.look()["lives"] == {}, "without data nobody knows them yet"
    tree.file("/var/lib/redis/6379/nodes.conf", NODES)
    tree.file("/var/lib/etcd/default/member/snap/db")
    assert tree.look()["lives"] == {"etcd_peer": "10.0.0.3:2380", "etcd_client": "10.0.0.3:2379", "redis": "10.0.0.3"}
