"""JSON lines -> filter -> JSON lines on Bourn, DuckDB, DataFusion and Polars: rows per CPU-second and per second, one table.

Each system runs as a process of its own with its defaults (all cores); CPU-seconds are user + system time of that process,
start-up included. Rounds are interleaved, the median is shown. The outputs are compared row by row with DuckDB's.
"""

import json
import os
import shutil
import statistics
import sys
from pathlib import Path

from measure import BOURN, ROUNDS, ROWS, WORK, processor, run

SOURCE = WORK / f"bids-{ROWS}.jsonl"

GENERATE = f"""
name: bids
source: {{ nexmark: {{ events: {ROWS}, seed: 1 }} }}
sink: {{ file: {{ path: "{SOURCE}" }} }}
"""

PIPELINE = f"""
name: filter
source: {{ file: {{ path: "{SOURCE}", schema: {{ auction: bigint, bidder: bigint, price: bigint, channel: text, url: text, date_time: text, extra: text }} }} }}
stages:
  - id: dear
    filter: price > 1000000
sink: {{ file: {{ path: "{WORK}/bourn.jsonl" }} }}
"""

DUCKDB = f"""
import duckdb
duckdb.sql(\"\"\"COPY (SELECT * FROM read_json('{SOURCE}', format='newline_delimited', columns={{
  auction:'BIGINT', bidder:'BIGINT', price:'BIGINT', channel:'VARCHAR', url:'VARCHAR', date_time:'VARCHAR', extra:'VARCHAR'}})
  WHERE price > 1000000) TO '{WORK}/duckdb.jsonl' (FORMAT json)\"\"\")
"""

POLARS = f"""
import polars as pl
schema = dict(auction=pl.Int64, bidder=pl.Int64, price=pl.Int64, channel=pl.String, url=pl.String, date_time=pl.String, extra=pl.String)
pl.scan_ndjson('{SOURCE}', schema=schema).filter(pl.col('price') > 1000000).sink_ndjson('{WORK}/polars.jsonl')
"""

DATAFUSION = f"""
import datafusion, pyarrow as pa
ctx = datafusion.SessionContext()
schema = pa.schema([(c, pa.int64()) for c in ('auction', 'bidder', 'price')] + [(c, pa.string()) for c in ('channel', 'url', 'date_time', 'extra')])
ctx.register_json('bids', '{SOURCE}', schema=schema, file_extension='.jsonl')
ctx.sql('SELECT * FROM bids WHERE price > 1000000').write_json('{WORK}/datafusion/')
"""


def rows_of(*paths):
    """The rows as comparable tuples, sorted: systems differ in order and in spacing."""
    rows = []
    for path in paths:
        with open(path) as lines:
            rows += [tuple(sorted(json.loads(line).items())) for line in lines]
    return sorted(rows)


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    if not SOURCE.exists():
        run([BOURN, "run", "-q", "-"], GENERATE)
    size = SOURCE.stat().st_size
    python = sys.executable
    systems = {
        "Bourn": ([BOURN, "run", "-q", "-"], PIPELINE),
        "DuckDB": ([python, "-c", DUCKDB], None),
        "DataFusion": ([python, "-c", DATAFUSION], None),
        "Polars": ([python, "-c", POLARS], None),
    }
    taken = {name: [] for name in systems}
    for _ in range(ROUNDS):
        for name, (argv, text) in systems.items():
            if name == "DataFusion":  # it adds files to the folder
                shutil.rmtree(WORK / "datafusion", ignore_errors=True)
            taken[name].append(run(argv, text))
    parts = sorted((WORK / "datafusion").glob("*"))
    expected = rows_of(WORK / "duckdb.jsonl")
    for name, paths in {"Bourn": [WORK / "bourn.jsonl"], "Polars": [WORK / "polars.jsonl"], "DataFusion": parts}.items():
        if rows_of(*paths) != expected:
            sys.exit(f"{name} gave other rows than DuckDB")
    from importlib.metadata import version

    versions = {"DuckDB": version("duckdb"), "DataFusion": version("datafusion"), "Polars": version("polars"), "Bourn": "this tree"}
    lines = [
        "# JSON lines -> filter -> JSON lines",
        "",
        f"{ROWS:,} Nexmark bids ({size / 1e6:.0f} MB), `price > 1000000`, {len(expected):,} rows written; the outputs are equal row by row.",
        f"Median of {ROUNDS} interleaved rounds; {processor()}, {os.cpu_count()} cores. Made by `benches/peers/run`.",
        "",
        "| system | version | M rows per CPU-second | MB per CPU-second | M rows/s | most memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in taken.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*runs))
        lines.append(
            f"| {name} | {versions[name]} | {ROWS / cpu / 1e6:.2f} | {size / cpu / 1e6:.0f} | {ROWS / wall / 1e6:.2f} | {memory:.0f} |"
        )
    report = "\n".join(lines) + "\n"
    (Path(__file__).parent / "RESULTS.md").write_text(report)
    print(report)


main()
