"""Programs that measure what we claim; each prints one JSON object as its last line with `--json`."""
