"""Method `contrast`: clusters whose borders fewer images cross than the insides."""
