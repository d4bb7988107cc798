"""Studies of training: `python -m experiments STUDY.yaml` trains, evaluates and reports.

A study is a YAML file (`study`); each of its trainings leaves a small record (`records`), which is
committed, so that a study goes on where it was on any machine. Pages are made of records alone.
"""
