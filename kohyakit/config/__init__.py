"""Everything a person can ask for, in sd-scripts' own words, and the rules between the words."""
