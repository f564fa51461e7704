"""What operators look at: panels as data, what lines of the log come to, and Grafana's boards of the same panels.

``panel`` says what a panel is, ``definition`` lists them, ``line`` reads lines and ``figures`` computes: pure.
``logql`` writes the same figures as queries of Loki: pure. ``grafana`` writes the boards and needs the extra ``dev``.
"""
