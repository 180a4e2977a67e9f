"""The recorded runs of lesson 03, and what the README's picture shows of its scoreboard."""

from factory.recordings.anchors import record_anchors

RECORDINGS = {"anchors": (record_anchors, "03_anchors.json")}
SHOWN = {"identity": "DPO: gives its new name", "other_skills": "DPO: all other skills"}
