# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a cluster of Debian's kind can become the platform's where it lies, and what changes for its users. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HOME = "/var/lib/postgresql/"
# One answer, a JSON object; databases are asked for their extensions one by one.
QUESTION = """
SELECT json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'data', current_setting('data_directory'),
  'recovery', pg_is_in_recovery(),
  'slots', (SELECT coalesce(json_agg(slot_name), '[]') FROM pg_replication_slots WHERE NOT temporary),
  'receivers', (SELECT coalesce(json_agg(DISTINCT application_name), '[]') FROM pg_stat_replication),
  'tablespaces', (SELECT coalesce(json_object_agg(spcname, pg_tablespace_location(oid)), '{}') FROM pg_tablespace
                  WHERE pg_tablespace_location(oid) <> ''),
  'preload', current_setting('shared_preload_libraries'),
  'prepared', (SELECT count(*) FROM pg_prepared_xacts),
  'checksums', current_setting('data_checksums'),
  'archive_mode', current_setting('archive_mode'),
  'databases', (SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn),
  'powerful', (SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles
               WHERE rolname IN ('replicator', 'rewinder', 'monitor') AND (rolsuper OR rolcreaterole OR rolcreatedb)),
  'settings', (SELECT coalesce(json_object_agg(name, setting), '{}') FROM pg_file_settings WHERE applied)
)
"""
MISSING = (
    "SELECT coalesce(json_agg(extname), '[]') FROM pg_extension WHERE NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = extname)"
)
# What a language decides stays as it is; no setting of the platform's has anything against it.
CARRIED = ("datestyle", "default_text_search_config", "lc_messages", "lc_monetary", "lc_numeric", "lc_time")
# Where files lie and what else the platform decides by itself, and Debian's own values.
DECIDED = (
    "data_directory",
    "hba_file",
    "ident_file",
    "external_pid_file",
    "cluster_name",
    "port",
    "listen_addresses",
    "unix_socket_directories",
)
DEFAULTS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
UNASKED = (
    "ssl",
    "ssl_cert_file",
    "ssl_key_file",
    "log_timezone",
    "timezone",
    "dynamic_shared_memory_type",
    "include_dir",
    "shared_preload_libraries",
    "archive_mode",
    "archive_command",
)


def obstacles(seen: Mapping[str, Any], version: str, data: str, preload: Sequence[str], missing: Mapping[str, Sequence[str]]) -> list[str]:
    """Return why the cluster must not be adopted, as whole sentences; `missing` are extensions without files, by database."""
    found = []
    if str(seen["version"]) != version:
        found.append(f"It runs version {seen['version']}, the platform {version}: upgrade it first (pg_upgradecluster).")
    if seen["data"].rstrip("/") != data:
        found.append(f"Its data is in {seen['data']}, the platform's in {data}: stop it, move the directory and set data_directory.")
    if seen["recovery"]:
        found.append("It is a standby: adopt the server that takes writes.")
    if seen["slots"]:
        found.append(
            f"It has replication slots ({', '.join(seen['slots'])}), which Patroni would drop: drop them, and rebuild what reads from them."
        )
    if seen["receivers"]:
        found.append(f"Others stream from it ({', '.join(seen['receivers'])}): stop them; standbys of the platform copy it anew.")
    outside = {name: place for name, place in seen["tablespaces"].items() if not place.startswith(HOME)}
    if outside:
        places = ", ".join(f"{name} in {place}" for name, place in sorted(outside.items()))
        found.append(f"Tablespaces are outside of {HOME}, where Patroni's unit may not write ({places}): move their tables to pg_default.")
    lacking = sorted(set(filter(None, (name.strip() for name in seen["preload"].split(",")))) - set(preload))
    if lacking:
        found.append(f"It loads {', '.join(lacking)} at its start, and the platform would not: name them in postgresql_preload_libraries.")
    if seen["prepared"]:
        found.append(f"{seen['prepared']} prepared transactions are open, and the platform permits none: commit them or roll them back.")
    if seen["powerful"]:
        found.append(f"Roles that the platform has for itself are somebody's administrators ({', '.join(seen['powerful'])}): rename them.")
    found += [
        f"Database {name} uses extensions whose files are gone ({', '.join(lost)})." for name, lost in sorted(missing.items()) if lost
    ]
    return found


def remarks(seen: Mapping[str, Any], kept: str) -> list[str]:
    """Return what is different for its users afterwards, as whole sentences; `kept` is where the old files are."""
    own = {
        name: value
        for name, value in sorted(seen["settings"].items())
        if name not in (*CARRIED, *DECIDED, *UNASKED) and DEFAULTS.get(name) != value
    }
    found = [f"Its settings and pg_hba.conf are kept in {kept}; clients that the platform does not know need postgresql_hba_rules."]
    if own:
        listed = ", ".join(f"{name}: {value}" for name, value in own.items())
        found.append(f"These settings of its own hold no more; what you still want goes into postgresql_parameters ({listed}).")
    if seen["checksums"] != "on":
        found.append("Its data has no checksums: stop the cluster once and run pg_checksums --enable.")
    if seen["archive_mode"] != "off":
        found.append("Its WAL archive gets no more files; pgBackRest's does.")
    return found


def base_configuration(seen: Mapping[str, Any]) -> str:
    """Return the file on which Patroni builds its own."""
    lines = [f"{name} = '{seen['settings'][name].replace(chr(39), chr(39) * 2)}'" for name in CARRIED if name in seen["settings"]]
    return "\n".join(["# Of the cluster that was adopted. Patroni adds what the platform decides.", *lines, ""])
