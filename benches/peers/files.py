"""CSV -> filter -> CSV and Parquet -> filter -> Parquet on Bourn, DuckDB, DataFusion and Polars: a table each.

As in json_lines.py: each system is a process of its own with its defaults, CPU-seconds are user + system time with the
start included, rounds are interleaved, the median is shown, and the rows are compared with DuckDB's. All of them write Parquet
by zstd.
"""

import os
import shutil
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import duckdb
from measure import BOURN, ROUNDS, ROWS, WORK, processor, run

COLUMNS = "auction: bigint, bidder: bigint, price: bigint, channel: text, url: text, date_time: text, extra: text"
CSV, PARQUET = WORK / f"bids-{ROWS}.csv", WORK / f"bids-{ROWS}.parquet"

GENERATE = f"""
name: bids
source: {{ nexmark: {{ events: {ROWS}, seed: 1 }} }}
sink: {{ file: {{ path: "%s" }} }}
"""

PIPELINE = f"""
name: filter
source: {{ file: {{ path: "%s"%s }} }}
stages:
  - id: dear
    filter: price > 1000000
sink: {{ file: {{ path: "%s" }} }}
"""

DUCKDB_TYPES = "{'auction':'BIGINT','bidder':'BIGINT','price':'BIGINT','channel':'VARCHAR','url':'VARCHAR','date_time':'VARCHAR','extra':'VARCHAR'}"
ARROW_SCHEMA = "pa.schema([(c, pa.int64()) for c in ('auction', 'bidder', 'price')] + [(c, pa.string()) for c in ('channel', 'url', 'date_time', 'extra')])"
POLARS_SCHEMA = "dict(auction=pl.Int64, bidder=pl.Int64, price=pl.Int64, channel=pl.String, url=pl.String, date_time=pl.String, extra=pl.String)"

CASES = {
    "CSV": {
        "source": CSV,
        "Bourn": PIPELINE % (CSV, f", schema: {{ {COLUMNS} }}", WORK / "bourn.csv"),
        "DuckDB": f'''
import duckdb
duckdb.sql("""COPY (SELECT * FROM read_csv('{CSV}', header=true, columns={DUCKDB_TYPES}) WHERE price > 1000000)
  TO '{WORK}/duckdb.csv' (FORMAT csv, HEADER true)""")
''',
        "DataFusion": f"""
import datafusion, pyarrow as pa
ctx = datafusion.SessionContext()
ctx.register_csv('bids', '{CSV}', schema={ARROW_SCHEMA}, has_header=True)
ctx.sql('SELECT * FROM bids WHERE price > 1000000').write_csv('{WORK}/datafusion/', with_header=True)
""",
        "Polars": f"""
import polars as pl
pl.scan_csv('{CSV}', schema={POLARS_SCHEMA}).filter(pl.col('price') > 1000000).sink_csv('{WORK}/polars.csv')
""",
        "rows": f"read_csv('%s', header=true, columns={DUCKDB_TYPES})",
        "ending": "csv",
    },
    "Parquet": {
        "source": PARQUET,
        "Bourn": PIPELINE % (PARQUET, "", WORK / "bourn.parquet"),
        "DuckDB": f'''
import duckdb
duckdb.sql("""COPY (SELECT * FROM read_parquet('{PARQUET}') WHERE price > 1000000)
  TO '{WORK}/duckdb.parquet' (FORMAT parquet, COMPRESSION zstd)""")
''',
        "DataFusion": f"""
import datafusion
ctx = datafusion.SessionContext()
ctx.register_parquet('bids', '{PARQUET}')
ctx.sql('SELECT * FROM bids WHERE price > 1000000').write_parquet('{WORK}/datafusion/', compression='zstd', compression_level=1)
""",
        "Polars": f"""
import polars as pl
pl.scan_parquet('{PARQUET}').filter(pl.col('price') > 1000000).sink_parquet('{WORK}/polars.parquet', compression='zstd', compression_level=1)
""",
        "rows": "read_parquet('%s')",
        "ending": "parquet",
    },
}


def compared(case):
    """How many rows DuckDB wrote; ends the run where another system wrote other ones."""
    ending, read = case["ending"], case["rows"]
    expected = read % (WORK / f"duckdb.{ending}")
    for name in ("bourn", "polars", "datafusion"):
        # DataFusion writes a folder.
        path = WORK / ("datafusion/*." + ending if name == "datafusion" else f"{name}.{ending}")
        other = read % path
        for a, b in ((expected, other), (other, expected)):
            if duckdb.sql(f"SELECT count(*) FROM (FROM {a} EXCEPT ALL FROM {b})").fetchall()[0][0]:
                sys.exit(f"{name} gave other rows than DuckDB")
    return duckdb.sql(f"SELECT count(*) FROM {expected}").fetchall()[0][0]


def table(title, case):
    """Runs a case; returns its table."""
    if not case["source"].exists():
        run([BOURN, "run", "-q", "-"], GENERATE % case["source"])
    size = case["source"].stat().st_size
    systems = {name: [sys.executable, "-c", case[name]] for name in ("DuckDB", "DataFusion", "Polars")}
    taken = {name: [] for name in ("Bourn", *systems)}
    for _ in range(ROUNDS):
        taken["Bourn"].append(run([BOURN, "run", "-q", "-"], case["Bourn"]))
        for name, argv in systems.items():
            if name == "DataFusion":  # it adds files to the folder
                shutil.rmtree(WORK / "datafusion", ignore_errors=True)
            taken[name].append(run(argv))
    # In a process of its own: a child's most memory begins at what its parent held, and this one would hold much.
    written = int(subprocess.run([sys.executable, __file__, title], check=True, capture_output=True, text=True).stdout)
    lines = [
        f"# {title} -> filter -> {title}",
        "",
        f"{ROWS:,} Nexmark bids ({size / 1e6:.0f} MB), `price > 1000000`, {written:,} rows written; the outputs have the same rows.",
        f"Median of {ROUNDS} interleaved rounds; {processor()}, {os.cpu_count()} cores. Made by `benches/peers/run`.",
        "",
        "| system | version | M rows per CPU-second | MB per CPU-second | M rows/s | most memory, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in taken.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*runs))
        known = "this tree" if name == "Bourn" else version(name.lower())
        lines.append(f"| {name} | {known} | {ROWS / cpu / 1e6:.2f} | {size / cpu / 1e6:.0f} | {ROWS / wall / 1e6:.2f} | {memory:.0f} |")
    return "\n".join(lines) + "\n"


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    results = Path(__file__).parent / "RESULTS.md"
    tables = [results.read_text()] if results.exists() else []
    tables = [text for text in tables if text.startswith("# JSON")]
    tables = [text.split("\n# ")[0].rstrip() + "\n" for text in tables]
    tables += [table(title, case) for title, case in CASES.items()]
    results.write_text("\n".join(tables))
    print("\n".join(tables))


if len(sys.argv) > 1:
    print(compared(CASES[sys.argv[1]]))
else:
    main()
