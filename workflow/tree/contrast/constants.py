"""Constants of the test of a join: how thin a crossing is against those inside either side."""

#: The constants of the test.  Without theory: chosen together on labelled and structureless
#: sets; 0.8 to 0.95 serve for a threshold, the others matter less.
DEFAULT_RATIO = 0.85
PRIOR_FLOWS, PRIOR_CONCENTRATION = 30.0, 0.22
SINGLE_REFERENCE_LIMIT = 0.3
CAUTION = 0.5
DENSITY_EXPONENT = 0.5
EXTRA_VARIANCE = 0.02
#: How much the concentration differs from cell to cell, relatively: a border of one or two cells,
#: as along a curve, says little however many images cross it.
NODE_VARIATION = 2.0
#: A crossing of this share of what leaves the smaller cluster is one of its main ones.
MAIN_SHARE = 0.4
#: Ratio of joins that were not tested.
UNTESTED = 10.0
