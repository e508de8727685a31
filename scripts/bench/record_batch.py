"""Building and parsing record batches of 1,000 records in Python, against aiokafka's Cython and pure Python.

All three take turns in one run; each figure is the best of many, the least that the neighbours of the machine disturb.
aiokafka is a dependency of development; without it only our own figures are printed.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from scripts.bench.report import bound, parser, show
from wire.record_batch import RecordFields, build_batch, check_batches

RECORDS: Final = 1000
ROUNDS: Final = 25
NOW_MS: Final = 1_700_000_000_000
BUILD_MS_MAX: Final = 0.45
PARSE_MS_MAX: Final = 1.5

Action = Callable[[], object]


def shapes() -> dict[str, list[RecordFields]]:
    value = b"x" * 100
    return {
        "values only": [(None, value, (), NOW_MS)] * RECORDS,
        "values of 50 to 149 B": [(None, b"x" * (50 + number * 7 % 100), (), NOW_MS) for number in range(RECORDS)],
        "keys and timestamps": [(b"key-%d" % number, value, (), NOW_MS + number) for number in range(RECORDS)],
        "one header each": [(None, value, (("trace", b"0123"),), NOW_MS + number) for number in range(RECORDS)],
    }


def peers(records: Sequence[RecordFields], batch: bytes) -> dict[str, tuple[Action, Action]]:
    """Building and parsing by aiokafka, where it is installed."""
    try:
        from aiokafka.record import default_records  # noqa: PLC0415 - optional
    except ImportError:
        return {}
    given = [(key, value, list(headers), timestamp_ms) for key, value, headers, timestamp_ms in records]
    pure = (default_records._DefaultRecordBatchBuilderPy, default_records._DefaultRecordBatchPy)  # noqa: SLF001 - its pure twin
    built = (default_records.DefaultRecordBatchBuilder, default_records.DefaultRecordBatch)
    return {
        name: (lambda builder=builder: build(builder, given), lambda reader=reader: parse(reader, batch))  # type: ignore[misc]  # defaults bind the loop's classes
        for name, (builder, reader) in {"cython": built, "pure": pure}.items()
    }


def build(builder: Any, records: Sequence[tuple[Any, ...]]) -> object:
    made = builder(2, 0, 0, -1, -1, -1, 1 << 30)
    for offset, (key, value, headers, timestamp_ms) in enumerate(records):
        made.append(offset, timestamp=timestamp_ms, key=key, value=value, headers=headers)
    return made.build()


def parse(reader: Any, batch: bytes) -> object:
    return [(record.offset, record.timestamp, record.key, record.value, record.headers) for record in reader(batch)]


def best_ms(actions: dict[str, Action]) -> dict[str, float]:
    """The best time of each, all taking turns."""
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(ROUNDS):
        for name, action in actions.items():
            began_s = time.perf_counter()
            action()
            best[name] = min(best[name], (time.perf_counter() - began_s) * 1e3)
    return best


def measure(shape: str, records: list[RecordFields]) -> list[dict[str, object]]:
    batch = bytes(build_batch(records))
    (view,) = check_batches(batch, max_batch_bytes=len(batch))
    others = peers(records, batch)
    builds = best_ms({"ours": lambda: build_batch(records), **{name: both[0] for name, both in others.items()}})
    parses = best_ms({"ours": view.records, **{name: both[1] for name, both in others.items()}})
    return [row("build", shape, builds, BUILD_MS_MAX), row("parse", shape, parses, PARSE_MS_MAX)]


def row(what: str, shape: str, best: dict[str, float], limit_ms: float) -> dict[str, object]:
    figures = {f"{name}_ms": round(best[name], 3) if name in best else None for name in ("ours", "cython", "pure")}
    verdict = bound(best["ours"], at_most=limit_ms) if shape == "values only" else ""
    return {"what": what, "records": shape, **figures, "us_per_record": round(best["ours"], 3), "bound": verdict}


def main() -> None:
    chosen = parser(__doc__).parse_args()
    rows = [line for shape, records in shapes().items() for line in measure(shape, records)]
    show(f"Record batches of {RECORDS}", sorted(rows, key=lambda line: str(line["what"])), as_json=chosen.json)


if __name__ == "__main__":
    main()
