"""Durable chains of three steps that do nothing, and a fan-out of ten with a join, on Bourn, LangGraph, DBOS and Restate: a table.

Each step is on the disk before the next one starts: Bourn with its default (SQLite, write-ahead log, synchronous=FULL),
LangGraph with its SQLite saver, synchronous=FULL and durability="sync", DBOS with SQLite as its database and its settings, Restate with
its server's settings (its log has its own ways to the disk) and 64 clients at once.
Each system is a process of its own; runs are counted from the first to the last, without the start. The peers in Python run one after
the other, which is where they are fastest with SQLite; Bourn is given all inputs, and once one after the other too. Rounds are
interleaved, the median is shown. `RUNS` (300) is for the peers, Bourn does a hundred times as many.
"""

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from measure import BOURN, ROUNDS, WORK, processor

RUNS = int(os.environ.get("RUNS", 300))
HOME = WORK / "workflows"
SHAPES = ["chain", "fan"]

SPECS = {
    "chain": "name: chain\nsteps:\n"
    + "".join(f"  - {{ id: {s}, set: '${{{r}}}' }}\n" for s, r in [("a", "input.n"), ("b", "a.results"), ("c", "b.results")]),
    "fan": "name: fan\nsteps:\n  - { id: first, set: '${input.n}' }\n"
    + "".join(f"  - {{ id: of_{n}, set: '${{first.results}}' }}\n" for n in range(10))
    + "  - { id: join, set: '${[" + ", ".join(f".of_{n}.results" for n in range(10)) + "] | add}' }\n",
}

# Each says the seconds of every run, as JSON.
PEERS = {
    "LangGraph": '''
import json, operator, sqlite3, sys, time
from typing import Annotated, TypedDict
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
shape, runs, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
class State(TypedDict):
    n: int
    of: Annotated[list, operator.add]
graph = StateGraph(State)
if shape == "chain":
    names = ["a", "b", "c"]
    for name in names:
        graph.add_node(name, lambda state: {"n": state["n"]})
    for one, two in zip([START] + names, names + [END]):
        graph.add_edge(one, two)
else:
    graph.add_node("first", lambda state: {"n": state["n"]})
    graph.add_node("join", lambda state: {"n": sum(state["of"])})
    graph.add_edge(START, "first")
    graph.add_edge("join", END)
    for n in range(10):
        graph.add_node(f"of_{n}", lambda state: {"of": [state["n"]]})
        graph.add_edge("first", f"of_{n}")
        graph.add_edge(f"of_{n}", "join")
db = sqlite3.connect(path, check_same_thread=False)
saver = SqliteSaver(db)
saver.setup()
db.execute("PRAGMA synchronous = FULL")
app = graph.compile(checkpointer=saver)
times = []
for n in range(runs):
    start = time.monotonic()
    given = app.invoke({"n": n, "of": []}, {"configurable": {"thread_id": str(n)}}, durability="sync")
    times.append(time.monotonic() - start)
    assert given["n"] == (n if shape == "chain" else 10 * n), given
print(json.dumps(times))
''',
    "DBOS": '''
import json, logging, sys, time
from dbos import DBOS
shape, runs, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
logging.disable(logging.CRITICAL)
DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{path}", "log_level": "CRITICAL", "run_admin_server": False})
@DBOS.step()
def step(n):
    return n
@DBOS.step()
async def one(n):
    return n
@DBOS.workflow()
def chain(n):
    return step(step(step(n)))
@DBOS.workflow()
async def fan(n):
    import asyncio
    first = await one(n)
    of = await asyncio.gather(*[one(first) for _ in range(10)])
    return await one(sum(of))
DBOS.launch()
def all_runs():
    times = []
    for n in range(runs):
        start = time.monotonic()
        assert chain(n) == n
        times.append(time.monotonic() - start)
    return times
async def all_fans():
    times = []
    for n in range(runs):
        start = time.monotonic()
        assert await fan(n) == 10 * n
        times.append(time.monotonic() - start)
    return times
if shape == "chain":
    times = all_runs()
else:
    import asyncio
    times = asyncio.run(all_fans())
print(json.dumps(times))
DBOS.destroy()
''',
}


# Restate is a server, and a service that it calls; both come from npm, and are left out where that is not there.
RESTATE = {"@restatedev/restate-server": "1.7.12", "@restatedev/restate-sdk": "1.17.2"}
SERVICE = """
Promise.withResolvers ??= function () {
  let resolve, reject;
  const promise = new Promise((a, b) => { resolve = a; reject = b; });
  return { promise, resolve, reject };
};
const restate = await import("@restatedev/restate-sdk");
const bench = restate.service({
  name: "bench",
  handlers: {
    chain: async (ctx, n) => {
      const a = await ctx.run("a", () => n);
      const b = await ctx.run("b", () => a);
      return await ctx.run("c", () => b);
    },
    fan: async (ctx, n) => {
      const first = await ctx.run("first", () => n);
      const of = await restate.RestatePromise.all(Array.from({ length: 10 }, (_, i) => ctx.run(`of_${i}`, () => first)));
      return await ctx.run("join", () => of.reduce((x, y) => x + y, 0));
    },
  },
});
restate.serve({ services: [bench], port: 19080 });
"""


class Restate:
    """The server and the service, for the time of a round."""

    def __init__(self):
        self.node = WORK.parent / "peers" / "node"
        if not (self.node / "node_modules").exists():
            self.node.mkdir(parents=True, exist_ok=True)
            (self.node / "package.json").write_text("{}")
            subprocess.run(["npm", "install", "--silent", *(f"{name}@{of}" for name, of in RESTATE.items())], cwd=self.node, check=True)
        (self.node / "service.mjs").write_text(SERVICE)

    def __enter__(self):
        fresh()
        env = dict(os.environ, RESTATE_LISTEN_MODE="tcp", RESTATE_BIND_IP="127.0.0.1", NODE_ENV="production", RESTATE_LOGGING="ERROR")
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        server = [self.node / "node_modules/.bin/restate-server", "--base-dir", HOME / "restate", "--no-logo"]
        self.children = [subprocess.Popen(server, cwd=self.node, **quiet), subprocess.Popen(["node", "service.mjs"], cwd=self.node, **quiet)]
        body = json.dumps({"uri": "http://127.0.0.1:19080"})
        for _ in range(100):
            try:
                if self.post(9070, "/deployments", body)[0] < 300:
                    return self
            except OSError:
                pass
            time.sleep(0.3)
        sys.exit("Restate does not come up")

    def __exit__(self, *_):
        for child in self.children:
            child.terminate()
        for child in self.children:
            child.wait()

    def post(self, port, path, body, client=None):
        client = client or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        client.request("POST", path, body, {"content-type": "application/json"})
        answer = client.getresponse()
        return answer.status, answer.read()

    def times(self, shape, runs):
        "Seconds of each run, one after the other."
        client, times = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60), []
        for n in range(runs):
            start = time.monotonic()
            status, given = self.post(8080, f"/bench/{shape}", str(n), client)
            times.append(time.monotonic() - start)
            assert (status, int(given)) == (200, n if shape == "chain" else 10 * n), given
        return times

    def rate(self, shape, runs):
        "Runs a second with 64 clients, which is where it is fastest."
        with ThreadPoolExecutor(64) as pool:
            start = time.monotonic()
            list(pool.map(lambda _: self.times(shape, runs // 64), range(64)))
            return runs // 64 * 64 / (time.monotonic() - start)


def fresh():
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    for shape in SHAPES:
        (HOME / f"{shape}.yaml").write_text(SPECS[shape])


def bourn_all(shape):
    "Runs a second, of many."
    fresh()
    runs = RUNS * 100
    (HOME / "in.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(runs)))
    with open(HOME / "out.jsonl", "w") as out:
        start = time.monotonic()
        subprocess.run([BOURN, "run", f"{shape}.yaml", "--inputs", "in.jsonl", "-o", "json", "-q"], cwd=HOME, stdout=out, check=True)
        took = time.monotonic() - start
    with open(HOME / "out.jsonl") as out:
        outputs = [json.loads(line)["final_output"] for line in out]
    assert outputs == [n if shape == "chain" else 10 * n for n in range(runs)]
    return runs / took


def bourn_one(shape):
    "Seconds of each run, one after the other in one process."
    fresh()
    command = [BOURN, "run", f"{shape}.yaml", "--inputs", "-", "-o", "json", "-q"]
    job = subprocess.Popen(command, cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    times = []
    for n in range(RUNS):
        start = time.monotonic()
        job.stdin.write(f'{{"n": {n}}}\n')
        job.stdin.flush()
        line = job.stdout.readline()
        times.append(time.monotonic() - start)
        assert json.loads(line)["final_output"] == (n if shape == "chain" else 10 * n), line
    job.stdin.close()
    assert job.wait() == 0
    return times


def peer(name, shape):
    fresh()
    command = [sys.executable, "-c", PEERS[name], shape, str(RUNS), str(HOME / f"{name}.db")]
    told = subprocess.run(command, cwd=HOME, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(told.strip().splitlines()[-1])


def main():
    rates, alone = {}, {}
    restate = Restate() if shutil.which("npm") else None
    for _ in range(ROUNDS):
        for shape in SHAPES:
            rates.setdefault((shape, "Bourn"), []).append(bourn_all(shape))
            alone.setdefault((shape, "Bourn"), []).extend(bourn_one(shape)[RUNS // 10 :])
            for name in PEERS:
                times = peer(name, shape)[RUNS // 10 :]
                rates.setdefault((shape, name), []).append(len(times) / sum(times))
                alone.setdefault((shape, name), []).extend(times)
        if restate:
            with restate:
                for shape in SHAPES:
                    restate.times(shape, RUNS // 10)
                    alone.setdefault((shape, "Restate"), []).extend(restate.times(shape, RUNS))
                    rates.setdefault((shape, "Restate"), []).append(restate.rate(shape, RUNS * 10))
    versions = {"Bourn": "this tree", "LangGraph": version("langgraph"), "DBOS": version("dbos")}
    if restate:
        versions["Restate"] = RESTATE["@restatedev/restate-server"]
    lines = ["# Durable workflows: a chain of three steps, and a fan-out of ten with a join", ""]
    lines.append(f"Each step on the disk before the next one starts; median of {ROUNDS} interleaved rounds; {processor()}, 2 cores. Made by `benches/peers/run`.")
    lines += ["", "| system | version | chains a second | times | one chain, p50 ms | fans a second | times | one fan, p50 ms |", "|---|---|---|---|---|---|---|---|"]
    for name, told in versions.items():
        cells = []
        for shape in SHAPES:
            rate, best = (statistics.median(rates[shape, of]) for of in (name, "Bourn"))
            cells += [f"{rate:,.0f}", f"1/{best / rate:.0f}" if name != "Bourn" else "", f"{statistics.median(alone[shape, name]) * 1e3:.1f}"]
        lines.append(f"| {name} | {told} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    results = WORK.parents[1] / "benches" / "peers" / "RESULTS.md"
    if "--write" in sys.argv:
        with open(results, "a") as out:
            out.write("\n" + text)
    shutil.rmtree(HOME)


main()
