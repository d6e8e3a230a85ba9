"""How the chance that a harmless version is ever rolled back, `harm_alpha`, is shared between the tests."""

SEQUENCE, STAGE_ENDS, EACH_OTHER = 0.3, 0.4, 0.06
"""Shares of `harm_alpha`: the error ratio at every look, the error ratio at the ends of stages, each of five others."""
SPENT_AT = {"staging": 0.1, "canary": 0.1, "small": 0.2, "half": 0.6}
"""Of the share of the ends of stages: most where most is known (O'Brien and Fleming 1979 spend alpha likewise)."""
