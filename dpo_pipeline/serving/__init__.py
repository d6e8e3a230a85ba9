"""One FastAPI app: the OpenAI-compatible API, comparisons and votes, feedback, the rollout."""
