"""What people can do, the same for API and pages: one service for each, given what it needs and nothing else.

Handlers and pages say what is asked and show what is answered. Deciding is `core`'s, keeping is the stores',
generating is the engine's. `serving.assembly` puts the services together.
"""
