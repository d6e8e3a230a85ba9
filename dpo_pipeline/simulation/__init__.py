"""People who do not exist. They use the system over HTTP only, and all they do is marked `simulated`."""
