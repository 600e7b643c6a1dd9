"""Parts of steps with a subject of their own: how clusters are numbered, duplicates, tasks of many passes, ..."""
