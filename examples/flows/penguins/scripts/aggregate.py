"""Mean body mass of each species: `means.json` and a bar chart, `mass.svg`."""

import json
import sys
from collections import defaultdict
from statistics import mean

BAR, GAP, SCALE, LEFT = 26, 14, 0.06, 90

masses = defaultdict(list)
with open(sys.argv[1]) as file:
    for row in json.load(file):
        if row["body_mass_g"] is not None:
            masses[row["species"]].append(row["body_mass_g"])

means = {species: round(mean(values)) for species, values in sorted(masses.items())}
with open("means.json", "w") as file:
    json.dump(means, file)

height = len(means) * (BAR + GAP) + GAP
style = 'font-family="sans-serif" font-size="13"'
bars = [f'<svg xmlns="http://www.w3.org/2000/svg" width="480" height="{height}" {style}>']
for number, (species, mass) in enumerate(means.items()):
    y = GAP + number * (BAR + GAP)
    bars.append(f'<text x="{LEFT - 8}" y="{y + 18}" text-anchor="end">{species}</text>')
    bars.append(f'<rect x="{LEFT}" y="{y}" width="{mass * SCALE:.0f}" height="{BAR}" fill="#3b7ea1"/>')
    bars.append(f'<text x="{LEFT + mass * SCALE + 8:.0f}" y="{y + 18}">{mass} g</text>')
bars.append("</svg>")
with open("mass.svg", "w") as file:
    file.write("\n".join(bars))
print(f"{sum(map(len, masses.values()))} penguins of {len(means)} species")
