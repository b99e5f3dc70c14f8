"""Results for people and for programs: the JSON document (and its schema), and text for a terminal.

``document`` builds the JSON document that ``report.schema.json`` describes; ``inputs`` reads and describes
the files that go into it; ``terminal`` turns it into tables and sentences. Nothing is computed here.
"""
