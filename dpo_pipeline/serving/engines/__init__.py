"""Where answers come from: a model in a process of our own, or another server that calls are forwarded to."""
