"""What the words of the command line do: one module for each; the command line and `Run` call these."""
