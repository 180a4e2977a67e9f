"""Lesson 03 needs no run that is too long for it; this is what the README's picture shows of its scoreboard."""

SHOWN = {"identity": "DPO: gives its new name", "other_skills": "DPO: all other skills"}
