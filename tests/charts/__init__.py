"""The chart, the image, the compose file and the units: rendered, validated, and compared with the program."""
