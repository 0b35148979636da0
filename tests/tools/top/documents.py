"""Documents as a daemon gives them: a busy one, one of another version, one with hostile names."""

from __future__ import annotations

from typing import Any

#: Control characters, full-width characters, and what joins or reverses others.
HOSTILE = "\x1b[2J\x07eins\r\n二\u202e三\u200d四五六七八九十" * 3

NOW_US = 1_764_000_000_000_000


def latency(p50_s: float, p99_s: float, count: int = 12_345) -> dict[str, Any]:
    return {
        "count": count, "p50_s": p50_s, "p95_s": (p50_s + p99_s) / 2, "p99_s": p99_s,
        "p999_s": p99_s * 1.5, "max_s": p99_s * 4,
    }  # fmt: skip


def stage(
    place: str, kind: str, items: int = 0, nbytes: int = 0, waiting: int = 0, per_s: float = 1240.0,
    detail: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "place": place,
        "stage": kind,
        "channel": {
            "items": items, "items_max": 1024, "bytes": nbytes, "bytes_max": 8 * 1024**2,
            "items_seen": max(items, 712), "bytes_seen": max(nbytes, 5 * 1024**2),
            "senders_waiting": waiting, "items_total": 7_654_321, "bytes_total": 98_765_432_100,
            "oldest_s": 0.0123 if items else 0.0,
        },
        "items_per_s": per_s,
        "bytes_per_s": per_s * 1_600,
        "queueing": latency(0.0004, 0.0012),
        "service": latency(0.00012, 0.0031),
        "detail": detail,
    }  # fmt: skip


ADAPTIVE = {
    "summary": "groups of up to 640 records, of 16 to 4,096",
    "figures": {"records": 640, "bytes": 163_840, "commit_s": 0.0041, "target_s": 0.02},
    "decisions": [
        {"at_us": NOW_US - 9_000_000, "decision": "grow", "before": 409, "after": 512,
         "reason": "a commit took 3.9 ms, the target is 20 ms, and the group was full"},
        {"at_us": NOW_US - 2_000_000, "decision": "grow", "before": 512, "after": 640,
         "reason": "a commit took 4.1 ms, the target is 20 ms, and the group was full"},
    ],
}  # fmt: skip


def pipeline(
    name: str, state: str = "running", load: float = 0.3, **changes: Any
) -> dict[str, Any]:
    items, nbytes = int(1024 * load), int(8 * 1024**2 * load / 4)
    return {
        "name": name,
        "state": state,
        "streams": ["orders-*", "*"],
        "last_error": None,
        "oldest_s": 0.0123,
        "append": latency(0.0012, 0.0048),
        "rates": {"records": 12_400.0 * load, "bytes": 1_990_000.0 * load, "batches": 1240.0},
        "stages": [
            stage("ingest", "group", items, nbytes, 2 if load > 0.8 else 0, detail=ADAPTIVE),
            stage("propose", "local"),
            stage("persist", "log", items // 4, nbytes * 3),
            stage("ack", "session", per_s=0.4),
        ],
        **changes,
    }


def group(stream: str, name: str, **changes: Any) -> dict[str, Any]:
    return {
        "stream": stream, "group": name, "mode": "shared", "order": "none", "paused": False,
        "members": 2, "partitions": 4, "lag": 1234, "oldest_age_s": 240.0, "in_flight": 10,
        "retrying": 3, "acked": 5000, "redelivered": 7, "dead": 1,
    } | changes  # fmt: skip


def stream(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "pipeline": "default", "storage": "disk", "partitions": 4,
        "records": 1_234_567, "bytes": 3_200_000_000, "dropped": 0, "state": "open",
        "records_per_s": 3_100.0,
    } | changes  # fmt: skip


def session(number: int, name: str, **changes: Any) -> dict[str, Any]:
    return {
        "session": number, "name": name, "peer": f"127.0.0.1:{50_000 + number}", "transport": "ws",
        "age_s": 7_980.0, "heard_s": 0.02, "requests": 16, "under_way_bytes": 1_310_720,
        "window_bytes": 4 * 1024**2, "outbox_bytes": 0, "bytes_in": 9_876_543_210,
        "bytes_out": 1_234_567, "records_in": 76_543_210, "subscriptions": 1, "memberships": 0,
        "slow": False, "leaving": False,
    } | changes  # fmt: skip


def objective(name: str, limit: float, unit: str, now: float, **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "limit": limit, "unit": unit, "now": now, "ok": True, "objective": 0.99,
        "compliance": 0.9987, "window_s": 86_400, "burn_5m": 0.2, "burn_1h": 0.1,
        "budget_left": 0.87, "met": True,
    } | changes  # fmt: skip


SLA = {
    "met": False,
    "since_s": 7_980,
    "objectives": [
        objective("latency_p99", 0.02, "s", 0.0048),
        objective("throughput", 1000, "records/s", 12_400.0),
        objective("error_rate", 0.001, "share", 0.0),
        objective("availability", 0.999, "share", 1.0, budget_left=1.0),
        objective("lag_age", 60, "s", 240.0, ok=False, compliance=0.97, burn_5m=14.4, burn_1h=6.1,
                  budget_left=-2.0, met=False),
    ],
}  # fmt: skip


STREAMS = [
    stream("orders"), stream("mails", records=12, bytes=4096, records_per_s=0.2),
    stream("presence", storage="memory", dropped=71_234, partitions=1),
    stream("audit-eu", state="stopped", pipeline="audit", records_per_s=0.0),
    stream("orders.dead", records=3, bytes=812, records_per_s=0.0),
]  # fmt: skip

GROUPS = [
    group("orders", "billing"),
    group("orders", "search-index", order="key", lag=1_234_567, oldest_age_s=4_000.0,
          members=12),
    group("mails", "sender", paused=True, lag=0, oldest_age_s=None, members=0,
          in_flight=0, retrying=0, dead=0),
    group("orders", "warehouse-replication-europe", mode="ordered", lag=8),
]  # fmt: skip

SESSIONS = {"count": 3, "max": 1000, "shown": [
    session(17, "orders-producer"),
    session(21, "search-index-0", transport="tcp", slow=True, outbox_bytes=4_100_000,
            memberships=1),
    session(33, "", peer="/run/streamer/streamer.sock", transport="unix",
            under_way_bytes=0, requests=1, age_s=12.0),
]}  # fmt: skip


def overview(**changes: Any) -> dict[str, Any]:
    """A busy daemon."""
    return {
        "version": "0.1.0",
        "protocol": 1,
        "pid": 4242,
        "server_time_us": NOW_US,
        "uptime_s": 7_980.0,
        "ready": True,
        "health": {"ok": True, "ready": True, "reasons": []},
        "listen": ["ws://127.0.0.1:4440", "unix:/run/streamer/streamer.sock"],
        "http": "127.0.0.1:4441",
        "process": {"cpu_s": 3_210.5, "cpu": 0.84, "rss_bytes": 150_000_000, "threads": 9,
                    "fds": 41, "fds_max": 1024},
        "disk": {"path": "/var/lib/streamer", "free_bytes": 63 * 1024**3,
                 "total_bytes": 100 * 1024**3},
        "rates": {"records_in": 12_400.0, "bytes_in": 1_990_000.0, "records_acked": 12_390.0,
                  "records_out": 37_100.0, "bytes_out": 5_970_000.0, "errors": 0.0,
                  "timeouts": 0.0},
        "totals": {"records_in": 98_765_432, "bytes_in": 15_876_543_210,
                   "records_acked": 98_765_000, "records_out": 296_000_000, "bytes_out": 47_000_000,
                   "errors": 12, "timeouts": 0},
        "availability": 0.99993,
        "pipelines": [
            pipeline("default"),
            pipeline("bulk", load=0.93),
            pipeline("audit", "restarting", 0.0, last_error="persist: no space left on device"),
        ],
        "streams": STREAMS,
        "groups": GROUPS,
        "sessions": SESSIONS,
        "sla": SLA,
    } | changes  # fmt: skip


EVENTS = [
    {"seq": 104, "at_us": NOW_US, "kind": "pipeline_crashed", "severity": "error", "count": 1,
     "text": "pipeline audit: persist: no space left on device",
     "facts": {"pipeline": "audit", "restart_in_s": 2.0}},
    {"seq": 103, "at_us": NOW_US - 4_000_000, "kind": "redelivered", "severity": "warning",
     "count": 17, "text": "orders, group billing: 17 records are given out again",
     "facts": {"stream": "orders", "group": "billing"}},
    {"seq": 102, "at_us": NOW_US - 9_000_000, "kind": "member_joined", "severity": "info",
     "count": 1, "text": "orders, group search-index: member 12 joined", "facts": {}},
]  # fmt: skip

GROUP = group("orders", "billing") | {
    "settings": {"mode": "shared", "order": "none", "ack_wait_s": 30.0, "lease_max_s": 3600.0,
                 "max_deliveries": 5, "backoff_s": [1.0, 5.0]},
    "member_list": [
        {"member": 7, "name": "billing-0", "peer": "127.0.0.1:50211", "in_flight": 6,
         "in_flight_bytes": 12_000, "oldest_s": 0.4, "max_in_flight": 1000, "partitions": []},
        {"member": 9, "name": "billing-1", "peer": "127.0.0.1:50212", "in_flight": 4,
         "in_flight_bytes": 8_000, "oldest_s": None, "max_in_flight": 1000, "partitions": [0, 2]},
    ],
    "partition_list": [
        {"partition": number, "cursor": 1000 + number, "high_water": 1400, "lag": 400 - number,
         "oldest_age_s": 240.0, "in_flight": 3, "retrying": 1, "done_ranges": 2, "owner": None,
         "fault": None}
        for number in range(4)
    ],
}  # fmt: skip

STREAM = {
    "name": "orders", "dictionary_id": 0, "pipeline": "default", "storage": "disk",
    "partitions": [
        {"partition": number, "first_offset": 0, "next_offset": 310_000, "high_water": 309_900,
         "bytes": 800_000_000, "segments": 13, "state": "open", "dropped": 0}
        for number in range(4)
    ],
}  # fmt: skip

SESSION = session(17, "orders-producer") | {
    "subscribed": [{"stream": "orders", "partition": 0, "offset": 1200, "credit_bytes": 4_194_304}],
    "member_of": [{"stream": "orders", "group": "billing", "member": 7, "in_flight": 6}],
}
