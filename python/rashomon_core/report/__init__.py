"""Results for people and for programs: the JSON document (and its schema), and text for a terminal.

``document`` builds the JSON document that ``report.schema.json`` describes; ``inputs`` reads and describes
the files that go into it; ``terminal`` and ``audits`` turn it into tables and sentences. ``material`` and
``heat`` gather what figures show, by the library's own metrics; ``charts``, ``page``, ``figures`` and ``tabular`` show
it and compute nothing; ``writing`` writes it.
"""
